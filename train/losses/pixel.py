"""Losses that compare pixel by pixel. Images float32 [b c *spatial], [-1,1] scale; each returns a scalar."""

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
