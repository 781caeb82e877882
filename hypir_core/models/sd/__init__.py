"""Stable Diffusion 2.1: base model, prompt, VAE, timestep."""
