"""Losses that compare pixel by pixel. Images float32 [b c h w], [-1,1] scale; each returns a scalar."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def l1(image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
    """Return the mean absolute error."""
    return F.l1_loss(image_pm1, target_pm1)


def l2(image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
    """Return the mean squared error."""
    return F.mse_loss(image_pm1, target_pm1)


def huber(image_pm1: Tensor, target_pm1: Tensor, *, delta: float = 0.1) -> Tensor:
    """Return the mean Huber loss: d²/2 where |d| ≤ δ, else δ·(|d| − δ/2)."""
    return F.huber_loss(image_pm1, target_pm1, delta=delta)


def charbonnier(image_pm1: Tensor, target_pm1: Tensor, *, eps: float = 1e-3) -> Tensor:
    """Return the mean of √(d² + ε²) − ε: |d| with a rounded tip. The −ε makes it zero at equality."""
    return (torch.sqrt((image_pm1 - target_pm1).square() + eps**2) - eps).mean()


def spectral_angle(image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
    """Return the mean angle in radians between the bands of a pixel and its target's (Kruse et al. 1993).

    Bands count from black (−1 on this scale). With unit vectors u, v the angle is 2·atan2(|u − v|, |u + v|) (Kahan),
    which keeps its accuracy and gradient at small angles, where the arc cosine has neither.
    """
    u, v = (F.normalize(each / 2 + 0.5, dim=1, eps=1e-6) for each in (image_pm1, target_pm1))
    return (
        2 * torch.atan2(torch.linalg.vector_norm(u - v, dim=1), torch.linalg.vector_norm(u + v, dim=1)).mean()
    )
