"""Cut a training sample out of a picture, and turn it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hypir_core.errors import ConfigError
from hypir_core.image.resize import resize

from ..config import Crop, DataConfig
from .axes import Scale, scales_of
from .elastic import elastic
from .levels import from_01, moved, to_01
from .seeds import below, uniform
from .source import Item

VOLUME_NDIM = 4
"""Of a volume [c z y x]."""

LARGEST_FIT = 1 / 0.7
"""fit_random shrinks the short side to at most this many crops; the range of HYPIR's random crop."""


def cut(item: Item, config: DataConfig, *, scale: Scale, generator: torch.Generator) -> Item:
    """Crop and turn a picture or volume, and its low-quality partner and mask at the same place.

    Shapes: [c *cells] → [c *sides] at the same depth, the partner 1/scale of it. The side is crop_px, and where
    the low-quality half is still to be made crop_px with the margin around it. Crops of pairs begin at
    multiples of `scale`, so that both halves show the same; they are never shrunk. Turns are of the last two axes.
    """
    if config.crop is not Crop.none:
        item = _crop(item, config, scale, generator)
    if config.hflip and uniform(generator) < 0.5:
        item = _both(item, lambda image: image.flip(-1))
    if config.rot90:
        if uniform(generator) < 0.5:
            item = _both(item, lambda image: image.flip(-2))
        if uniform(generator) < 0.5 and item.hq.shape[-1] == item.hq.shape[-2]:
            item = _both(item, lambda image: image.transpose(-1, -2))
    if config.flip_slices and item.hq.ndim == VOLUME_NDIM and uniform(generator) < 0.5:
        item = _both(item, lambda image: image.flip(-3))
    if config.elastic:
        item = elastic(item, config.elastic, scale=scale, generator=generator)
    return _both(item, lambda image: image.contiguous())


def _crop(item: Item, config: DataConfig, scale: Scale, generator: torch.Generator) -> Item:
    given, axes = item.lq is not None, item.hq.ndim - 1
    sides = scales_of(config.crop_px if given else config.whole_px, axes)
    factors = scales_of(scale, axes)
    if axes == 2 and sides[0] == sides[1]:
        drawn_px = _window_px(item.hq, sides[0], config, generator)
        windows = sides if given else (drawn_px, drawn_px)
    else:
        windows = sides
    if any(window > length for window, length in zip(windows, item.hq.shape[1:], strict=True)):
        raise ConfigError(
            f"data.crop_px: {list(windows)} is larger than what is cut, {list(item.hq.shape[1:])}; lower it, or raise "
            "data.source.tile_px"
        )
    grains = factors if given else (1,) * axes
    free = [
        (length - window) // grain
        for length, window, grain in zip(item.hq.shape[1:], windows, grains, strict=True)
    ]
    if config.crop in {Crop.center, Crop.fit_center}:
        starts = [each // 2 * grain for each, grain in zip(free, grains, strict=True)]
    else:
        starts = [below(generator, each + 1) * grain for each, grain in zip(free, grains, strict=True)]
    hq = part(item.hq, starts, windows)
    valid = None if item.valid is None else part(item.valid, starts, windows)
    if windows != sides:
        hq = from_01(resize(to_01(hq)[None], (sides[0], sides[1]))[0], hq.dtype)
    if item.lq is None:
        return replace(item, hq=hq, valid=valid)
    lq = part(item.lq, *([n // k for n, k in zip(each, factors, strict=True)] for each in (starts, windows)))
    return replace(item, hq=hq, lq=lq, valid=valid)


def part(image: Tensor, starts: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Return a box of [c *cells]."""
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True), 1):
        image = image.narrow(axis, start, size)
    return image


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
        item,
        hq=moved(item.hq, change),
        lq=moved(item.lq, change) if item.lq is not None else None,
        valid=change(item.valid) if item.valid is not None else None,
    )


def without_margin(image: Tensor, margin_px: int) -> Tensor:
    """Cut `margin_px` off every side of [c *cells]."""
    if not margin_px:
        return image
    sizes = [size - 2 * margin_px for size in image.shape[1:]]
    return part(image, [margin_px] * len(sizes), sizes).contiguous()
