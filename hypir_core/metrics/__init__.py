"""Figures that say how good a picture is: fidelity, perception, seams, whole folders."""
