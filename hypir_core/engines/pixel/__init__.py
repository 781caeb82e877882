"""Diffusion on the pixels themselves, with the microscope's physics in the loop."""
