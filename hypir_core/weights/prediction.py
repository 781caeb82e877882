"""What the network of a diffusion model predicts."""

from __future__ import annotations

from enum import Enum


class Prediction(str, Enum):
    """What the UNet predicts."""

    eps = "eps"
    v = "v"
    x0 = "x0"
    difference = "difference"
    """What is to be taken off the degraded latent: clean = degraded − prediction."""
