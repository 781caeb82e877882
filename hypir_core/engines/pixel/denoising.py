"""A network of pixels as the denoiser of an engine: where it lies, and how its tiles are laid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...diffusion.samplers.base import Step
from ...models.layers.shared_layers import SharedLayers
from ...models.layers.shared_norms import SharedNorms
from ...residency import send_home
from ...tiling.geometry import PerAxis
from ...tiling.plan import TileConfig
from ...tiling.sample import SampleSize
from ...weights.prediction import Prediction
from ..diffusion.networks import in_float32
from ..diffusion.parts import Denoiser, Placing

Predict = Callable[[Tensor, Step, Any, Mapping[str, Tensor]], Tensor]
"""See `Denoiser.predict`."""

TILE_PX = 512

MOST_RADIUS = 32
"""Pixels of surroundings that a tile keeps at most; a U-Net's receptive field is larger than what it looks at."""

SAMPLE = SampleSize(crop_px=128, of_tile=0.5)
"""What stands for the picture, so that norms treat all tiles alike."""

LIVE_MAPS = 9
"""Feature maps of the finest level that are alive at once; measured 7.6 and 8.5, with tiles of 512 and 256 px."""


def pixel_denoiser(net: nn.Module, *, kind: Prediction) -> Denoiser:
    """Return how tiles of a network are laid: it says what it sees (`Architecture`)."""
    radius, grain = min(_stated(net, "receptive_radius"), MOST_RADIUS), max(1, _stated(net, "fold"))
    has_norms = any(isinstance(module, nn.GroupNorm) for module in net.modules())
    return Denoiser(
        predict=_no_picture,
        kind=kind,
        grain_px=grain,
        margin_px=radius,
        min_tile_px=-(-max(64, 4 * radius) // grain) * grain,
        tile=TileConfig(tile_px=TILE_PX, overlap_px=2 * radius),
        sample=SAMPLE,
        placing=Placing(
            bytes_per_px=LIVE_MAPS * 4.0 * _stated(net, "maps_per_cell"),
            place=partial(_place, net),
            leave=partial(send_home, net),
            shared=SharedLayers(norms=SharedNorms(net)) if has_norms else None,
            in_float32=partial(in_float32, net) if any(True for _ in net.parameters()) else None,
        ),
    )


def at_stride(denoiser: Denoiser, stride: int) -> Denoiser:
    """Return the same for cells of `stride` output pixels: as many cells in a tile."""
    if stride == 1:
        return denoiser
    tile = denoiser.tile
    return replace(
        denoiser,
        grain_px=_times(denoiser.grain_px, stride),
        margin_px=_times(denoiser.margin_px, stride),
        min_tile_px=_times(denoiser.min_tile_px, stride),
        tile=replace(tile, tile_px=_times(tile.tile_px, stride), overlap_px=_times(tile.overlap_px, stride)),
        sample=replace(denoiser.sample, crop_px=denoiser.sample.crop_px * stride),
        placing=replace(denoiser.placing, bytes_per_px=denoiser.placing.bytes_per_px / stride**2),
    )


def _no_picture(_x: Tensor, _step: Step, _value: Any, _guides: Mapping[str, Tensor]) -> Tensor:
    raise AssertionError("what a denoiser predicts with is made for every picture")


def _times(length: PerAxis, stride: int) -> PerAxis:
    return length * stride if isinstance(length, int) else tuple(each * stride for each in length)


def _stated(net: nn.Module, name: str) -> int:
    return int(getattr(net, name, 1 if name == "fold" else 0))


def _place(net: nn.Module, device: torch.device) -> None:
    net.to(device)
