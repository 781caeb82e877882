"""Losses that compare pictures at several sizes. Images float32 [b c h w]; each returns a scalar."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .domain import works_in

LEAST_SIDE_PX = 16
"""Smaller pictures say nothing of structure; a level whose shorter side would be less is left out."""


@works_in(axes=(2,))
def pyramid(image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
    """Return the mean over the means of 1, 2, 4 and 8 cells a side of the squared error, as far as they fit.

    The sizes are 1/k; k where the shorter side would fall below 16 px is left out, but for k = 1.
    """
    error, shorter = image_pm1 - target_pm1, min(image_pm1.shape[-2:])
    cells = [k for k in (1, 2, 4, 8) if k == 1 or shorter // k >= LEAST_SIDE_PX]
    return torch.stack([F.avg_pool2d(error, k).square().mean() for k in cells]).mean()


@works_in(axes=(2,))
def cross_resolution(image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
    """Return the squared error at half the size, where the fine half of what is wrong no longer counts.

    With gradient through the shrinking: the part of a picture that a coarse phase of a training has learned stays
    right while a finer phase learns the rest. A side of one cell is left as it is.
    """
    factors = tuple(2 if side > 1 else 1 for side in image_pm1.shape[-2:])
    return F.avg_pool2d(image_pm1 - target_pm1, factors).square().mean()
