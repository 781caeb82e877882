"""Cut a training sample out of a picture, and turn it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from hypir_core.image.resize import resize

from ..config import Crop, DataConfig
from .levels import from_01, moved, to_01
from .seeds import below, uniform
from .source import Item

LARGEST_FIT = 1 / 0.7
"""fit_random shrinks the short side to at most this many crops; the range of HYPIR's random crop."""


def cut(item: Item, config: DataConfig, *, scale: int, generator: torch.Generator) -> Item:
    """Crop and flip a picture, and its low-quality partner at the same place.

    Shapes: [c h w] → [c side side] at the same depth, the partner 1/scale of it. The side is crop_px, and where
    the low-quality half is still to be made crop_px with the margin around it. Crops of pairs begin at
    multiples of `scale`, so that both halves show the same; they are never shrunk.
    """
    if config.crop is not Crop.none:
        item = _crop(item, config, scale, generator)
    if config.hflip and uniform(generator) < 0.5:
        item = _both(item, lambda image: image.flip(-1))
    if config.rot90:
        if uniform(generator) < 0.5:
            item = _both(item, lambda image: image.flip(-2))
        if uniform(generator) < 0.5:
            item = _both(item, lambda image: image.transpose(-1, -2))
    return _both(item, lambda image: image.contiguous())


def _crop(item: Item, config: DataConfig, scale: int, generator: torch.Generator) -> Item:
    given = item.lq is not None
    side = config.crop_px if given else config.whole_px
    drawn_px = _window_px(item.hq, side, config, generator)
    window = side if given else drawn_px
    grain = scale if given else 1
    free_h, free_w = ((length - window) // grain for length in item.hq.shape[-2:])
    if config.crop in {Crop.center, Crop.fit_center}:
        top, left = free_h // 2 * grain, free_w // 2 * grain
    else:
        top, left = below(generator, free_h + 1) * grain, below(generator, free_w + 1) * grain
    hq = item.hq[:, top : top + window, left : left + window]
    if window != side:
        hq = from_01(resize(to_01(hq)[None], (side, side))[0], hq.dtype)
    if item.lq is None:
        return replace(item, hq=hq)
    top, left, side = top // scale, left // scale, side // scale
    return replace(item, hq=hq, lq=item.lq[:, top : top + side, left : left + side])


def _window_px(hq: Tensor, side: int, config: DataConfig, generator: torch.Generator) -> int:
    """Return the side of the square that becomes the crop, in pixels of the picture."""
    short = min(hq.shape[-2:])
    if config.crop is Crop.fit_center:
        return short
    if config.crop is Crop.fit_random:
        most = min(math.ceil(side * LARGEST_FIT), short)
        return round(short * side / (side + below(generator, most - side + 1)))
    low, high = config.shrink
    factor = uniform(generator, low, high) if uniform(generator) < config.shrink_prob else 1.0
    return min(round(side / factor), short)


def _both(item: Item, change: Callable[[Tensor], Tensor]) -> Item:
    return replace(
        item, hq=moved(item.hq, change), lq=moved(item.lq, change) if item.lq is not None else None
    )


def without_margin(image: Tensor, margin_px: int) -> Tensor:
    """Cut `margin_px` off every side of [c h w]."""
    if not margin_px:
        return image
    return image[:, margin_px:-margin_px, margin_px:-margin_px].contiguous()
