"""How much of a tile counts where: the weights of every tile along every axis sum to one over the canvas."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product

from torch import Tensor

from .geometry import per_axis
from .plan import TilePlan
from .stage import Stage
from .window import axis_weights


def blend_weights(stage: Stage, plan: TilePlan, cells: Sequence[int]) -> list[tuple[Tensor, ...]]:
    """Return the weights along the axes of every tile, for a canvas of `cells`."""
    n = len(cells)
    strides, margins = per_axis(stage.out_strides, n), per_axis(stage.margin_px, n)
    windowed = [
        partial(axis_weights, window=plan.window, margin=m // s)
        for m, s in zip(margins, strides, strict=True)
    ]
    along = (
        weigh([(start // s, length // s) for start, length in spans], total)
        for weigh, spans, s, total in zip(stage.weights or windowed, plan.axes, strides, cells, strict=True)
    )
    return list(product(*along))


def weighted(tile: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return a tile [b c *cells] times its weights along every axis, float32."""
    out = tile.float()
    for axis, along in enumerate(weights, 1):
        out = out * along.to(tile.device).reshape(-1, *[1] * (len(weights) - axis))
    return out
