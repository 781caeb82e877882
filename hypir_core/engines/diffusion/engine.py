"""The one-step engine: encode, one diffusion step, decode, written against three functions.

The functions may come from diffusers modules (`one_step_networks`) or from any other host of the same
networks. Nothing here knows a UNet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...diffusion.prediction import one_step_x0
from ...image.resize import resize
from ...models.layers.shared_layers import SharedLayers
from ...request import Request
from ...tiling.geometry import Plane
from ...tiling.plan import TileConfig, TilePlan
from ...tiling.run import Stage, TileFunction
from ...tiling.sample import SampleSize
from ...weights.spec import Prediction
from ..base import EngineSpec, Prepared
from .sharing import InFloat32, sample_survey

LATENT_PX = 8
"""Output pixels per latent cell."""

GRAIN_PX = 64
"""The UNet halves its latent three times: 8 cells of 8 px."""

STEP_TILE = TileConfig(tile_px=512, overlap_px=64)
"""The size the UNet was trained at; its overlap gives neighbouring tiles a common context."""

VAE_TILE = TileConfig(tile_px=768, overlap_px=32)
"""The VAE is most of the work: larger tiles repeat less of it. Where all tiles are treated alike, a small
overlap is enough (`benchmarks/tile_quality.py`)."""

VAE_MARGIN_PX = 8
"""A latent cell at a cut edge, where convolutions met padding, is left out of the blend."""

ENCODE_SAMPLE = SampleSize(crop_px=96, of_tile=1.6)
STEP_SAMPLE = SampleSize(crop_px=128, of_tile=0.5)
DECODE_SAMPLE = SampleSize(crop_px=96, of_tile=0.5)
"""What stands for the picture. The encoder errs most by a small sample, and costs half of what the decoder does."""

ENLARGE_BELOW = 0.75
"""Pictures whose longer side is under this part of the native size are enlarged, others only mirrored."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """A prompt made ready, once for the whole picture."""

    condition: Any
    """What `OneStepNetworks.predict` takes."""
    notes: tuple[str, ...] = ()
    """What the user should know about it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OneStepNetworks:
    """The three networks as functions of one batch of tiles, which lie on the stage's device in float32.

    Any floating format may be returned.
    """

    encode: Callable[[Tensor], Tensor]
    """Picture [n 3 h w] in [-1,1] → posterior mean [n 4 h/8 w/8], not scaled."""
    predict: Callable[[Tensor, Any], Tensor]
    """(scaled latent [n 4 h w], `Prompt.condition`) → the UNet's prediction at the trained timestep."""
    decode: Callable[[Tensor], Tensor]
    """Latent [n 4 h w], not scaled → picture [n 3 8h 8w] in [-1,1]."""
    read_prompt: Callable[[str], Prompt]
    """Called more than once per picture; should remember."""
    place_vae: Callable[[torch.device], None]
    place_unet: Callable[[torch.device], None]
    encode_bytes_per_px: float
    """Working memory of a tile, per output pixel."""
    predict_bytes_per_px: float
    decode_bytes_per_px: float
    encode_shared: SharedLayers | None = None
    """The network's layers that would look beyond a tile, to treat all tiles alike; None treats every tile by itself."""
    predict_shared: SharedLayers | None = None
    decode_shared: SharedLayers | None = None
    vae_in_float32: InFloat32 | None = None
    """Within it, encode and decode compute in float32; None where that cannot be had."""
    unet_in_float32: InFloat32 | None = None
    """The same for predict."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OneStep:
    """One-step restoration with a latent diffusion model."""

    spec: EngineSpec
    networks: OneStepNetworks
    a_bar: float
    """ā at the coefficients' timestep."""
    prediction: Prediction = Prediction.eps
    scaling_factor: float = 0.18215
    whole_vae: bool = False
    """Whether the networks' encode and decode take the whole canvas and cut it themselves."""
    native_px: int = 512
    """Canvas sides are at least this long: the UNet knows nothing smaller."""

    def prepare(self, image_01: Tensor, size_px: tuple[int, int], request: Request) -> Prepared:
        """Resize the picture, then mirror it at its right and lower edge up to the canvas.

        A thin picture is mirrored in its short direction, never enlarged for it: its long side keeps its
        size. Only a picture that is small both ways is enlarged, until its longer side has the native size.
        """
        content_px, canvas_px = canvas_for(size_px, native_px=self.native_px)
        content = resize(image_01, content_px).clamp(0, 1)
        notes = self.networks.read_prompt(request.prompt).notes
        if content_px != size_px:
            notes += (
                f"processed at {content_px[1]}×{content_px[0]} px: the model knows no smaller pictures",
            )
        return Prepared(plane=Plane(mirror_to(content, canvas_px)), content_px=content_px, notes=notes)

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Return encode, step and decode. Tiles that the request names are used by all three."""
        own_tiles = request.tile_px is None and request.overlap_px is None
        vae: dict[str, Any] = {"tile": _window(VAE_TILE, request) if own_tiles else None}
        if self.whole_vae:
            h, w = prepared.plane.height_px, prepared.plane.width_px
            vae["plan"] = TilePlan(h, w, ((0, h),), ((0, w),))
        return one_step_stages(self, request, vae=vae)


def one_step_stages(
    engine: OneStep, request: Request, *, vae: Mapping[str, Any], step: Mapping[str, Any] | None = None
) -> tuple[Stage, Stage, Stage]:
    """Return the three stages of one picture.

    Args:
        engine: the networks and the numbers of the formula.
        request: its prompt is read once, here.
        vae: fields of `Stage` that say how encode and decode are tiled, where it is not the usual way.
        step: the same for the step.
    """
    networks, scale = engine.networks, engine.scaling_factor
    condition = networks.read_prompt(request.prompt).condition

    def encode(tile_01: Tensor, _guides: Mapping[str, Tensor]) -> Tensor:
        return networks.encode(tile_01 * 2 - 1) * scale

    def take_step(z: Tensor, _guides: Mapping[str, Tensor]) -> Tensor:
        return one_step_x0(
            z, lambda z: networks.predict(z, condition), a_bar=engine.a_bar, kind=engine.prediction
        )

    def decode(x0: Tensor, _guides: Mapping[str, Tensor]) -> Tensor:
        return networks.decode(x0 / scale).float() / 2 + 0.5

    of_vae = {"grain_px": LATENT_PX, "margin_px": VAE_MARGIN_PX, "place": networks.place_vae, **vae}
    of_step = {"grain_px": GRAIN_PX, "place": networks.place_unet, **(step or {})}
    return (
        Stage(
            name="encode",
            run=encode,
            out_channels=4,
            out_stride_px=LATENT_PX,
            bytes_per_px=networks.encode_bytes_per_px,
            survey=sample_survey(
                encode, networks.encode_shared, ENCODE_SAMPLE, in_float32=networks.vae_in_float32
            ),
            repeat=_repeat(encode, networks.vae_in_float32),
            **of_vae,
        ),
        Stage(
            name="step 1/1",
            run=take_step,
            out_channels=4,
            out_stride_px=LATENT_PX,
            bytes_per_px=networks.predict_bytes_per_px,
            survey=sample_survey(
                take_step, networks.predict_shared, STEP_SAMPLE, in_float32=networks.unet_in_float32
            ),
            repeat=_repeat(take_step, networks.unet_in_float32),
            compare=True,
            **of_step,
        ),
        Stage(
            name="decode",
            run=decode,
            out_channels=3,
            out_stride_px=1,
            bytes_per_px=networks.decode_bytes_per_px,
            survey=sample_survey(
                decode, networks.decode_shared, DECODE_SAMPLE, in_float32=networks.vae_in_float32
            ),
            repeat=_repeat(decode, networks.vae_in_float32),
            **of_vae,
        ),
    )


def _repeat(run: TileFunction, in_float32: InFloat32 | None) -> TileFunction | None:
    if in_float32 is None:
        return None

    def again(tile: Tensor, guides: Mapping[str, Tensor]) -> Tensor:
        with in_float32():
            return run(tile, guides)

    return again


def canvas_for(size_px: tuple[int, int], *, native_px: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the size of the content and of the canvas for a result of `size_px`, both (height, width).

    The canvas is at most `native_px` in a direction where the content is smaller, and less than one grain
    more than the content in the others.
    """
    longer = max(size_px)
    factor = native_px / longer if longer < ENLARGE_BELOW * native_px else 1.0
    content = (max(1, round(size_px[0] * factor)), max(1, round(size_px[1] * factor)))
    canvas = tuple(-(-max(side, native_px) // GRAIN_PX) * GRAIN_PX for side in content)
    return content, (canvas[0], canvas[1])


def mirror_to(image_bchw: Tensor, size_px: tuple[int, int]) -> Tensor:
    """Continue a picture to the right and below by mirroring it, [b c h w] → [b c *size_px].

    Convention: the edge line is not repeated ("reflect"); a picture of one line is repeated.
    """
    for dim, size in zip((-2, -1), size_px, strict=True):
        length = image_bchw.shape[dim]
        if size != length:
            there_and_back = [*range(length), *range(length - 2, 0, -1)]
            index = torch.tensor([there_and_back[i % len(there_and_back)] for i in range(size)])
            image_bchw = image_bchw.index_select(dim, index.to(image_bchw.device))
    return image_bchw


def _window(tile: TileConfig, request: Request) -> TileConfig:
    return (
        tile
        if request.window is None
        else TileConfig(tile_px=tile.tile_px, overlap_px=tile.overlap_px, window=request.window)
    )
