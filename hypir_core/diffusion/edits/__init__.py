"""Corrections of the clean estimate, between a prediction and the sampler's move."""
