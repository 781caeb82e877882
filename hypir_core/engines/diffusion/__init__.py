"""Restoration with a diffusion model."""
