"""Generators as graphs of other programs, checked against torch."""
