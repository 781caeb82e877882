"""The depths at which pictures travel from their file to a batch: uint8, uint16 and float32.

A value is divided by its white (255, 65535, 1) to become [0,1]. Going to a deeper one loses nothing: k/255 and
257·k/65535 are the same number, so that a batch is the same however its samples were kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from hypir_core.errors import RangeError

WHITE = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float32: 1.0}
"""Depth → the value that means 1, from shallow to deep."""

_DEPTHS = tuple(WHITE)
_STEP_8_TO_16 = 257


def to_01(pixels: Tensor) -> Tensor:
    """Return float32 values in [0,1] of pixels of any depth, any shape."""
    white = WHITE[_known(pixels.dtype)]
    return pixels if pixels.dtype == torch.float32 else pixels.float() / white


def from_01(image_01: Tensor, depth: torch.dtype) -> Tensor:
    """Clamp to [0,1] and round to the nearest level of `depth`; float32 is only clamped."""
    clamped = image_01.clamp(0, 1)
    if _known(depth) == torch.float32:
        return clamped
    return clamped.mul(WHITE[depth]).round().to(depth)


def deepened(pixels: Tensor, depth: torch.dtype) -> Tensor:
    """Return the same values at `depth`, which is as deep or deeper."""
    if pixels.dtype == depth:
        return pixels
    if depth == torch.float32:
        return to_01(pixels)
    return (pixels.to(torch.int32) * _STEP_8_TO_16).to(depth)


def deepest(tensors: Iterable[Tensor]) -> torch.dtype:
    """Return the deepest of the depths."""
    return max((_known(each.dtype) for each in tensors), key=_DEPTHS.index)


def alike(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return all of them at the depth of the deepest."""
    depth = deepest(tensors)
    return [deepened(each, depth) for each in tensors]


def viewable(image: Tensor) -> Tensor:
    """Return [c h w] as three channels for a screen: colour, grey three times, or the first three of more bands."""
    return image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)


def moved(pixels: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply what only moves values (flips, picks by index); torch lacks some of it for uint16."""
    if pixels.dtype != torch.uint16:
        return change(pixels)
    return change(pixels.view(torch.int16)).view(torch.uint16)


def put(into: Tensor, places: Tensor, values: Tensor) -> None:
    """Write `values` [m …] at `places`, int64 [m], of `into` [n …] of the same depth, in place."""
    if into.dtype == torch.uint16:
        into, values = into.view(torch.int16), values.view(torch.int16)
    into[places] = values


def _known(depth: torch.dtype) -> torch.dtype:
    if depth not in WHITE:
        raise RangeError(f"expected pixels of uint8, uint16 or float32, got {depth}")
    return depth
