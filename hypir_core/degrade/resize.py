"""Change of size with the interpolation drawn for the sample."""

from __future__ import annotations

import torch.nn.functional as F  # torch's own name for it
from torch import Tensor

from .parts import ResizeMode


def resize_image(image_bchw: Tensor, size_hw: tuple[int, int], mode: ResizeMode) -> Tensor:
    """Return the picture at `size_hw`; the same tensor when that is its size already.

    Shapes: [b c h w] float32 to [b c *size_hw], not clamped (bicubic overshoots).
    Convention: pixel centres at half-integers (align_corners False); bilinear and bicubic without antialias
    keep their narrow kernel when they shrink, as cheap resizers do; area repeats pixels when it enlarges.
    """
    if image_bchw.shape[-2:] == size_hw:
        return image_bchw
    name, _, antialias = mode.value.partition("_")
    return F.interpolate(image_bchw, size_hw, mode=name, antialias=bool(antialias))


def scaled_hw(size_hw: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return the size times `factor`, rounded half up, at least one pixel per side."""
    h, w = size_hw
    return max(1, int(h * factor + 0.5)), max(1, int(w * factor + 0.5))
