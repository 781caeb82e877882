"""Cells without data, filled from the nearest that have some: a network must see something, and nothing sudden."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_MEANS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def fill_holes(x: Tensor, valid: Tensor, depth: int, *, far: float = 0.0) -> Tensor:
    """Return `x` with its holes filled, ring by ring, each cell by the mean of its known neighbours.

    What is filled depends on cells at most `depth` away, so that tiles which are read with that much around them are
    filled alike.

    Args:
        x: [1 c *spatial] float32, up to 3 axes; values in holes do not matter.
        valid: [*spatial], true where there is data.
        depth: how many rings; what lies deeper in a hole becomes `far`.
        far: see there.
    """
    if bool(valid.all()):
        return x
    axes = x.ndim - 2
    seen = valid[None, None].to(x.dtype)
    filled = torch.where(valid, x, x.new_zeros(()))
    mean = _MEANS[axes]
    for _ in range(depth if bool(valid.any()) else 0):
        part = mean(seen, 3, stride=1, padding=1)
        ring = (seen == 0) & (part > 0)
        if not bool(ring.any()):
            break
        around = mean(filled, 3, stride=1, padding=1) / part.clamp_min(1e-12)
        filled = torch.where(ring, around, filled)
        seen = torch.where(ring, torch.ones_like(seen), seen)
    return torch.where(seen > 0, filled, x.new_full((), far))
