"""What a diffusion engine is made of: networks as functions of a tile, a codec, a denoiser, a condition.

Nothing here knows a UNet. The functions may come from diffusers modules (`networks`), from ComfyUI's MODEL and VAE,
or be a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...diffusion.samplers.base import Step
from ...models.layers.shared_layers import SharedLayers
from ...request import Request, Tag
from ...tiling.geometry import PerAxis
from ...tiling.plan import TileConfig
from ...tiling.sample import SampleSize
from ...tiling.stage import Guide, place_nothing
from ...weights.spec import Prediction
from .sizing import Placed

InFloat32 = Callable[[], AbstractContextManager[None]]

STEP_TILE_PX, VAE_TILE_PX = 512, 768

STEP_TILE = TileConfig(tile_px=STEP_TILE_PX, overlap_px=64)
"""The size the UNet was trained at; its overlap gives neighbouring tiles a common context."""

VAE_TILE = TileConfig(tile_px=VAE_TILE_PX, overlap_px=32)
"""The VAE is most of the work: larger tiles repeat less of it. Where all tiles are treated alike, a small
overlap is enough (`benchmarks/tile_quality.py`)."""

VAE_MARGIN_PX = 8
"""A latent cell at a cut edge, where convolutions met padding, is left out of the blend."""

ENCODE_SAMPLE = SampleSize(crop_px=96, of_tile=0.8)
STEP_SAMPLE = SampleSize(crop_px=128, of_tile=0.5)
DECODE_SAMPLE = SampleSize(crop_px=96, of_tile=0.3)
"""What stands for the picture. The encoder errs most by a small sample, and costs half of what the decoder does."""


def leave_nothing() -> None:
    """Send nothing home: for what somebody else places."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Placing:
    """Where a network lies, what it takes, and how its tiles are treated alike."""

    bytes_per_px: float
    """Working memory of a tile, per output pixel."""
    place: Callable[[torch.device], None] = place_nothing
    """Bring the network to a device."""
    leave: Callable[[], None] = leave_nothing
    """Send it home, where a run ended early."""
    shared: SharedLayers | None = None
    """The layers that would look beyond a tile, to treat all tiles alike; None treats every tile by itself."""
    in_float32: InFloat32 | None = None
    """Within it, the network computes in float32; None where that cannot be had."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Codec:
    """Picture ↔ canvas of the denoiser: a VAE, or nothing at all (`IDENTITY`).

    Its functions take one batch of tiles on the stage's device in float32; any floating format may be returned.
    """

    encode: Callable[[Tensor], Tensor] | None = None
    """Picture [n 3 h w] in [0,1] → latent [n c h/s w/s], not scaled; None leaves the picture as the canvas."""
    decode: Callable[[Tensor], Tensor] | None = None
    """Latent, not scaled → picture [n 3 h w], 0 black, 1 white, not clamped."""
    channels: int = 4
    """Of a latent."""
    picture_channels: int = 3
    cell_px: int = 8
    """Output pixels per latent cell, along every axis."""
    scale: float = 0.18215
    """The denoiser sees the latent times this."""
    encoding: Placing = field(default_factory=lambda: Placing(bytes_per_px=1.0))
    decoding: Placing = field(default_factory=lambda: Placing(bytes_per_px=1.0))
    tile: TileConfig = VAE_TILE
    encode_sample: SampleSize = ENCODE_SAMPLE
    """What stands for the picture when tiles are encoded."""
    decode_sample: SampleSize = DECODE_SAMPLE
    """The same when they are decoded."""
    whole: bool = False
    """Whether encode and decode take the whole canvas and cut it themselves."""


IDENTITY = Codec(channels=3, cell_px=1, scale=1.0)
"""The canvas is the picture."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Condition:
    """What the networks are told, made once for the whole picture."""

    value: Any = None
    """What `Denoiser.predict` takes."""
    guides: Mapping[str, Guide] = field(default_factory=dict)
    """Planes that are cropped with the tile: a control picture, the measured picture."""
    prompt: str | None = None
    """The words that were read in the end, for reports; None says those of the request."""
    tags: tuple[Tag, ...] = ()
    """What was seen in the picture, for reports."""
    notes: tuple[str, ...] = ()
    """What the user should know about it."""


Conditioner = Callable[[Tensor, Placed, Request], Condition]
"""(input [b c h w] in [0,1], the same on the canvas, request) → condition: from the prompt alone, from what the picture
shows, or with guides as large as the canvas. Called once per picture."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Denoiser:
    """The network that predicts, as a function of one batch of tiles."""

    predict: Callable[[Tensor, Step, Any, Mapping[str, Tensor]], Tensor]
    """(noisy canvas [n c *cells] in scaled units, float32; the step; `Condition.value`; guides cropped alike) → the
    prediction, shaped like the canvas."""
    kind: Prediction = Prediction.eps
    """What is predicted."""
    grain_px: PerAxis = 64
    """Tile sizes and starts; a UNet that halves its latent three times: 8 cells of 8 px."""
    tile: TileConfig = STEP_TILE
    min_tile_px: PerAxis = 64
    margin_px: PerAxis = 0
    """Output pixels at a cut edge that are left out of the blend, where its result lacks its surroundings."""
    sample: SampleSize = STEP_SAMPLE
    placing: Placing = field(default_factory=lambda: Placing(bytes_per_px=1.0))


def also_leaving(denoiser: Denoiser, leave: Callable[[], None]) -> Denoiser:
    """Return a denoiser that, where a run ended early, sends something else home as well: a tagger."""
    placing = denoiser.placing

    def both() -> None:
        placing.leave()
        leave()

    return replace(denoiser, placing=replace(placing, leave=both))
