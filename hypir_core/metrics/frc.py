"""Fourier ring correlation: down to which detail two pictures agree."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ShapeError

THRESHOLD = 1 / 7
"""Below it two pictures no longer agree (van Heel and Schatz, J. Struct. Biol. 151, 250, 2005, give it as usual)."""

FINEST_PX = 2.0
"""A period of two pixels: nothing finer can lie on a grid."""


def frc_curve(image: Tensor, truth: Tensor) -> Tensor:
    """Return how alike two pictures are on every ring of their spectra: [b n], n = 1 … shorter side // 2, float64.

    Saxton and Baumeister, J. Microsc. 127, 127, 1982: on a ring, the real part of Σ F·G* over √(Σ|F|²·Σ|G|²). A
    frequency lies on ring round(|frequency| · shorter side), halves up. Means are removed; there is no window.
    Brightness and contrast do not count. A ring without light in one of the two is 0.

    Shapes: both [b c h w], real; channels are taken together.

    Raises:
        ShapeError: they differ in shape, or a side is shorter than 4.
    """
    if image.shape != truth.shape or image.ndim != 4 or min(image.shape[-2:]) < 4:
        raise ShapeError(
            "two pictures [b c h w] of the same size, 4 px a side or more, are expected, got "
            f"{list(image.shape)} and {list(truth.shape)}"
        )
    height, width = image.shape[-2:]
    side = min(height, width)
    f, g = (
        torch.fft.fft2(each.double() - each.double().mean((-2, -1), keepdim=True)) for each in (image, truth)
    )
    down, right = (torch.fft.fftfreq(n, dtype=torch.float64, device=f.device) for n in (height, width))
    ring = ((down[:, None] ** 2 + right[None] ** 2).sqrt() * side + 0.5).floor().long().flatten()

    def summed(values: Tensor) -> Tensor:
        flat = values.sum(1).flatten(1)
        sums = flat.new_zeros(flat.shape[0], int(ring.max()) + 1)
        return sums.index_add_(1, ring, flat)[:, 1 : side // 2 + 1]

    alike = summed((f * g.conj()).real)
    size = (summed(f.abs().square()) * summed(g.abs().square())).sqrt()
    return torch.where(
        size > 0, alike / size.clamp(min=torch.finfo(size.dtype).tiny), torch.zeros_like(alike)
    )


def frc_resolution_px(image: Tensor, truth: Tensor, *, threshold: float = THRESHOLD) -> Tensor:
    """Return the finest period that agrees, in pixels, [b] float64: where the curve first falls below the threshold.

    Between two rings the curve is a straight line. 2 px, the finest there is, where it never falls.

    Raises:
        ShapeError: as `frc_curve`.
    """
    side = min(image.shape[-2:])
    return torch.tensor(
        [_crossing_px(curve, side, threshold) for curve in frc_curve(image, truth).tolist()],
        dtype=torch.float64,
    )


def _crossing_px(curve: list[float], side: int, threshold: float) -> float:
    for place, value in enumerate(curve):
        if value < threshold:
            before = curve[place - 1] if place else 1.0
            ring = place + (before - threshold) / (
                before - value
            )  # rings count from 1: `place` is the one before
            return side / max(ring, 1.0)
    return FINEST_PX
