"""Smooth random bending of a pair: both halves and the mask by the same field, so that they stay aligned."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .axes import Scale
from .levels import from_01, to_01
from .source import Item

KNOTS = 4
"""Of the field along every axis: what lies between them is bent smoothly."""

MODES = {2: "bicubic", 3: "trilinear"}


def elastic(item: Item, most: float, *, scale: Scale, generator: torch.Generator) -> Item:
    """Bend a picture or volume by at most the share `most` of its sides.

    The field is drawn at `KNOTS` knots per axis and is 0 at the border of the crop, so nothing comes from outside. The
    low-quality half is sampled at the same places of the scene: cell centres of both are on one scale from -1 to 1.
    """
    del scale  # both halves cover the same ground, whatever their cells
    axes = item.hq.ndim - 1
    knots = (torch.rand((1, axes, *[KNOTS] * axes), generator=generator) * 2 - 1) * 2 * most
    for axis in range(axes):
        knots.narrow(2 + axis, 0, 1).zero_()
        knots.narrow(2 + axis, KNOTS - 1, 1).zero_()
    return replace(
        item,
        hq=_bent(item.hq, knots, nearest=False),
        lq=None if item.lq is None else _bent(item.lq, knots, nearest=False),
        valid=None if item.valid is None else _bent(item.valid.float(), knots, nearest=True) > 0,
    )


def _bent(image: Tensor, knots: Tensor, *, nearest: bool) -> Tensor:
    sizes = image.shape[1:]
    field = F.interpolate(knots, tuple(sizes), mode=MODES[len(sizes)], align_corners=False)
    centres = [(torch.arange(size) + 0.5) * 2 / size - 1 for size in sizes]
    # grid_sample wants x first.
    grid = torch.stack(torch.meshgrid(*centres, indexing="ij")[::-1], -1)[None] + field.movedim(1, -1)
    values = image if image.dtype == torch.float32 else to_01(image)
    mode = "nearest" if nearest else "bilinear"
    out = F.grid_sample(values[None], grid, mode=mode, padding_mode="border", align_corners=False)[0]
    return out if image.dtype == torch.float32 else from_01(out, image.dtype)
