"""Blend windows: separable weights that sum to one over the canvas.

A window is 1 where only one tile looks, and ramps over the real overlap with a neighbour. Because tiles lie on
a product of row spans and column spans, the weights are products of per-axis weights, and dividing each axis by
its own sum makes the whole sum exactly one: no full-size weight plane is ever needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum

import torch
from torch import Tensor


class Window(str, Enum):
    """Shape of the ramp over an overlap of n cells; k counts cells from the tile's edge."""

    hann = "hann"
    """½(1 − cos(π(k+½)/n))"""
    linear = "linear"
    """(k+½)/n"""
    gaussian = "gaussian"
    """exp(−x²/(2·0.1²)), x the distance from the tile's middle in tile widths: over the whole tile, not only
    the overlap (MultiDiffusion, arXiv 2302.08113, as the diffusion upscalers use it)."""


GAUSSIAN_SIGMA = 0.1
GAUSSIAN_FLOOR = 1e-6
"""Keeps the weight of a far corner above float32 noise."""

Span = tuple[int, int]
"""Start and length along one axis."""

AxisWeights = Callable[[Sequence[Span], int], tuple[Tensor, ...]]
"""(spans, length of the axis) → one weight vector per span, which sum to 1; see `axis_weights`."""


def axis_weights(spans: Sequence[Span], total: int, window: Window, *, margin: int = 0) -> tuple[Tensor, ...]:
    """Return one weight vector per span; wherever spans overlap, the weights sum to 1.

    Args:
        spans: (start, length) of every tile along one axis, sorted by start, covering [0, total).
        total: length of the axis, in the same cells.
        window: shape of the ramp.
        margin: cells next to a neighbour that get no weight, because a network sees them without their
            surroundings (its receptive radius); at most half of the overlap.

    Returns:
        Float32 CPU vectors, one per span, of the span's length.
    """
    raw = []
    for index, (start, length) in enumerate(spans):
        before = spans[index - 1][0] + spans[index - 1][1] - start if index else 0
        after = start + length - spans[index + 1][0] if index + 1 < len(spans) else 0
        weights = _gaussian(length) if window is Window.gaussian else torch.ones(length, dtype=torch.float64)
        weights[:before] *= _taper(before, window, margin)
        weights[length - after :] *= _taper(after, window, margin).flip(0)
        raw.append(weights)
    weight_sum = torch.zeros(total, dtype=torch.float64)
    for (start, length), weights in zip(spans, raw, strict=True):
        weight_sum[start : start + length] += weights
    return tuple(
        (weights / weight_sum[start : start + length]).float()
        for (start, length), weights in zip(spans, raw, strict=True)
    )


def _taper(overlap: int, window: Window, margin: int) -> Tensor:
    """Return the rise over one overlap: `margin` zeros, a ramp, `margin` ones."""
    edge = min(margin, overlap // 2)
    n = overlap - 2 * edge
    position = (torch.arange(n, dtype=torch.float64) + 0.5) / max(n, 1)
    if window is Window.hann:
        position = 0.5 * (1 - torch.cos(math.pi * position))
    elif window is Window.gaussian:
        position = torch.ones(n, dtype=torch.float64)
    return torch.cat(
        [torch.zeros(edge, dtype=torch.float64), position, torch.ones(edge, dtype=torch.float64)]
    )


def _gaussian(length: int) -> Tensor:
    x = (torch.arange(length, dtype=torch.float64) - (length - 1) / 2) / length
    return torch.exp(-(x**2) / (2 * GAUSSIAN_SIGMA**2)).clamp_min(GAUSSIAN_FLOOR)
