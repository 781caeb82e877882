"""How true the bands of a picture or volume are: their angle, their relative error, and what they say when shrunk."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ShapeError

POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def sam(image: Tensor, truth: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Return the mean angle between the bands of a pixel and the true ones, in radians: 0 for equal colours.

    Kruse et al., "The Spectral Image Processing System", 1993; a spectrum of zeros is at a right angle to all but
    itself. With unit vectors u, v it is 2·atan2(|u − v|, |u + v|) (Kahan), which is exact at small angles. Blind to
    brightness, not to an offset: give it values that count from no light.

    Shapes: both [b c *spatial], any bands and axes; `valid` [b 1 *spatial], true where a pixel counts; returns [b],
    float32, NaN where nothing counts.

    Raises:
        ShapeError: the two differ in shape.
    """
    image, truth = _alike(image, truth)
    u, v = (F.normalize(each, dim=1, eps=1e-30) for each in (image, truth))
    apart, together = (torch.linalg.vector_norm(each, dim=1) for each in (u - v, u + v))
    return _mean(2 * torch.atan2(apart, together), None if valid is None else valid[:, 0]).float()


def ergas(image: Tensor, truth: Tensor, *, scale: float, valid: Tensor | None = None) -> Tensor:
    """Return the relative error over the bands, 0 for equal pictures; below 3 is called good.

    Wald, "Quality of high resolution synthesised images: is there a simple criterion?", 2000:
    100/scale · √(mean over the bands of (RMSE / mean of the true band)²).

    Shapes: both [b c *spatial], any bands and axes, in values that count from no light; `valid` [b 1 *spatial]; returns
    [b], float32. A wrong band whose true mean is 0 makes it infinite, an equal one counts 0.

    Args:
        image: the result.
        truth: the true picture.
        scale: how many times finer than the input the two are, along one axis.
        valid: where a pixel counts; None: everywhere.

    Raises:
        ShapeError: the two differ in shape.
    """
    image, truth = _alike(image, truth)
    mask = None if valid is None else valid.expand(truth.shape)
    errors, means = (_mean_of_bands(each, mask) for each in ((image - truth).square(), truth))
    relative = torch.where(errors == 0, torch.zeros_like(errors), errors / means.square())
    return (100 / scale * relative.mean(1).sqrt()).float()


def consistency(image: Tensor, low: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Return by how much the result, shrunk to its input by averaging, differs from it: the mean |difference|.

    Large values say that detail was invented against what was measured, or that brightness moved.

    Shapes: image [b c *spatial·scale], low [b c *spatial], any bands and axes, whole factors that may differ by axis;
    `valid` [b 1 *spatial] is that of `low`; returns [b], float32, in units of the values.

    Raises:
        ShapeError: the factors are no whole numbers, or images and channels differ.
    """
    axes = low.ndim - 2
    factors = [big // small for big, small in zip(image.shape[2:], low.shape[2:], strict=False)]
    whole = [small * factor for small, factor in zip(low.shape[2:], factors, strict=False)]
    if image.ndim != low.ndim or image.shape[:2] != low.shape[:2] or list(image.shape[2:]) != whole:
        raise ShapeError(
            "a picture whose sides are whole multiples of its input's is expected, with as many bands, got "
            f"{list(image.shape)} and {list(low.shape)}"
        )
    shrunk = POOL[axes](image.double(), factors)
    mask = None if valid is None else valid.expand(low.shape)
    return _mean((shrunk - low).abs(), mask).float()


def _alike(image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if image.ndim < 3 or image.shape != truth.shape:
        raise ShapeError(
            "two pictures [b c *spatial] of the same shape are expected, got "
            f"{list(image.shape)} and {list(truth.shape)}"
        )
    return image.double(), truth.double()


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over all but the first axis, [b]."""
    if mask is None:
        return x.flatten(1).mean(1)
    counts = mask.bool()
    return torch.where(counts, x, 0.0).flatten(1).sum(1) / counts.flatten(1).sum(1)


def _mean_of_bands(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean of each band, [b c]."""
    flat = _mean(x.flatten(0, 1), None if mask is None else mask.flatten(0, 1))
    return flat.unflatten(0, x.shape[:2])
