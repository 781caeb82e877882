"""Sharpen the light of a picture without a halo: edges before the restoration, everything after it.

Both are an unsharp mask of the luma (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B of the encoded values), held between the
least and the greatest luma of the nine pixels around: an edge gets steeper, and no pixel gets lighter or darker than
what was beside it. All channels move alike, so hues stay.

Sums are made tap by tap in a fixed order: a pixel's value does not depend on how much of the picture is there.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import RangeError, ShapeError

REACH_PX = 2
"""How far a pixel looks around."""

LUMA = (0.299, 0.587, 0.114)

BLUR = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
"""Binomial taps, close to a Gaussian of σ = 1 px."""

MOST = 2.0
"""How many times the difference from the surroundings is added with strength 1."""

STEEP = 0.1
"""Change of luma per pixel at which an edge counts half."""


def sharpen(image_01: Tensor, strength: float) -> Tensor:
    """Add the luma's difference from its surroundings, everywhere alike.

    Shapes: [b 1|3 h w] in [0,1] → the same, float32 in [0,1]; `image_01` itself with strength 0.

    Args:
        image_01: the picture.
        strength: 0 leaves it as it is, 1 adds the difference twice.

    Raises:
        ShapeError: neither 1 nor 3 channels.
        RangeError: the strength is not from 0 to 1.
    """
    return _with_steeper_luma(image_01, strength, only_edges=False)


def edge_enhance(image_01: Tensor, strength: float) -> Tensor:
    """Do what `sharpen` does where the luma is steep, and nothing where it is flat: noise stays as it is.

    The difference counts g/(g + 0.1), where g is the length of the Sobel gradient in luma per pixel. Arguments, shapes
    and errors as `sharpen`.
    """
    return _with_steeper_luma(image_01, strength, only_edges=True)


def _with_steeper_luma(image_01: Tensor, strength: float, *, only_edges: bool) -> Tensor:
    if not 0 <= strength <= 1:
        raise RangeError(f"the strength of sharpening must be from 0 (off) to 1, got {strength:g}")
    if image_01.ndim != 4 or image_01.shape[1] not in {1, 3}:
        raise ShapeError(
            f"sharpening takes a picture [b 1|3 h w], grey or RGB, got {tuple(image_01.shape)}; leave it out"
        )
    if strength == 0:
        return image_01
    image = image_01.float()
    luma = _luma(image)
    around = F.pad(luma, (REACH_PX,) * 4, mode="replicate")
    detail = luma - _blurred(around)
    if only_edges:
        steep = _gradient(around)
        detail = detail * (steep / (steep + STEEP))
    least, greatest = _extremes(around)
    change = (luma + MOST * strength * detail).clamp(least, greatest) - luma
    return (image + change).clamp_(0, 1)


def _luma(image: Tensor) -> Tensor:
    """[b 1|3 h w] → [b 1 h w]."""
    if image.shape[1] == 1:
        return image
    red, green, blue = image.split(1, 1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _blurred(around: Tensor) -> Tensor:
    """[b 1 h+4 w+4] → [b 1 h w]."""
    h, w = (side - 2 * REACH_PX for side in around.shape[-2:])
    rows = reduce(torch.add, (tap * around[..., i : i + h, :] for i, tap in enumerate(BLUR)))
    return reduce(torch.add, (tap * rows[..., i : i + w] for i, tap in enumerate(BLUR)))


def _gradient(around: Tensor) -> Tensor:
    """Return the length of the Sobel gradient, per pixel: [b 1 h+4 w+4] → [b 1 h w]."""
    near = around[..., 1:-1, 1:-1]
    above, below = near[..., :-2, :], near[..., 2:, :]
    left, right = near[..., :-2], near[..., 2:]
    down = (below - above)[..., :-2] + 2 * (below - above)[..., 1:-1] + (below - above)[..., 2:]
    across = (right - left)[..., :-2, :] + 2 * (right - left)[..., 1:-1, :] + (right - left)[..., 2:, :]
    return (down.square() + across.square()).sqrt() / 8


def _extremes(around: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest of 3×3 pixels: [b 1 h+4 w+4] → two of [b 1 h w]."""
    near = around[..., 1:-1, 1:-1]
    return -F.max_pool2d(-near, 3, stride=1), F.max_pool2d(near, 3, stride=1)
