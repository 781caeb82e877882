"""Reference mode: one-step restoration with the sizes, tiles and windows of the original implementation.

For comparisons. Bicubic resizing without antialiasing, short sides enlarged to one tile whatever the long
side becomes, mid-grey padding to 8 px, tiles at every multiple of the stride plus one at the end, Gaussian
windows over whole tiles. Two things differ on purpose: the posterior's mean is taken instead of a random
sample, and tiles are blended in float32.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..color.fix import apply_color_fix_
from ..device import Runtime, describe_device
from ..errors import ConfigError
from ..image.plane import Plane
from ..image.resize import resize
from ..image.size import TargetSize
from ..pipeline import Restored, check_image
from ..request import Report, Request
from ..tiling.plan import TileConfig, TilePlan
from ..tiling.run import Stage, run_stage
from ..tiling.window import GAUSSIAN_SIGMA, Span, Window
from .base import Prepared
from .one_step import LATENT_PX, OneStep, one_step_stages

REFERENCE_TILE = TileConfig(tile_px=512, overlap_px=256, window=Window.gaussian)
"""The original's patch of 512 px and stride of 256 px."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferencePrepared(Prepared):
    """A picture made ready by the original's rules."""

    reference_01: Tensor
    """[b 3 H W], the input resized, not clamped: gives the result its size and its colours."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OneStepReference(OneStep):
    """`OneStep` by the original's rules; overlap = tile − stride. Run it with `restore_like_the_original`."""

    def prepare(self, image_01: Tensor, size_px: tuple[int, int], request: Request) -> ReferencePrepared:
        """Resize as the original does, whose sizes are truncated: `size_px` is not looked at."""
        del size_px
        tile = reference_tile(self, request)
        reference = resize_like_the_original(image_01, request.target, self.spec.default_scale)
        content = reference
        if min(reference.shape[-2:]) <= tile.tile_px:
            content = _short_side_to(reference, tile.tile_px)
        h, w = content.shape[-2:]
        pad = (0, -w % LATENT_PX, 0, -h % LATENT_PX)
        return ReferencePrepared(
            plane=Plane(nn.functional.pad(content, pad, value=0.5)),
            content_px=(h, w),
            notes=self.networks.read_prompt(request.prompt).notes,
            reference_01=reference,
        )

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Return encode, step and decode, all three on the original's tiles."""
        tile = reference_tile(self, request)
        plan = TilePlan(
            prepared.plane.height_px,
            prepared.plane.width_px,
            original_spans(prepared.plane.height_px, tile),
            original_spans(prepared.plane.width_px, tile),
            Window.gaussian,
        )
        rows, columns = (partial(original_weights, middle=middle) for middle in (0.0, 0.5))
        placing = {"plan": plan, "weights": (rows, columns), "grain_px": LATENT_PX}
        return one_step_stages(self, request, vae=placing, step=placing)


def restore_like_the_original(
    engine: OneStepReference, image_01: Tensor, request: Request, runtime: Runtime
) -> Restored:
    """Do what `pipeline.restore` does, with the original's sizes and its own reference for the colours.

    Raises: as `pipeline.restore` does.
    """
    started = time.perf_counter()
    check_image(image_01, channels=engine.spec.channels)
    image = image_01.float().to(runtime.canvas_device).expand(-1, engine.spec.channels, -1, -1)
    prepared = engine.prepare(image, (0, 0), request)
    reference = prepared.reference_01
    tile = reference_tile(engine, request)
    plane, stage_reports = prepared.plane, []
    for stage in engine.stages(prepared, request):
        plane, stage_report = run_stage(stage, plane, tile=tile, runtime=runtime)
        stage_reports.append(stage_report)

    h, w = prepared.content_px
    size_px = (reference.shape[-2], reference.shape[-1])
    content = resize(plane.data_bchw[..., :h, :w], size_px).contiguous()
    mode = request.color_fix if request.color_fix is not None else engine.spec.color_fix
    apply_color_fix_(content, reference, mode=mode, strength=request.color_strength)
    restored = reference.lerp(content, request.strength).clamp_(0, 1)
    report = Report(
        engine=engine.spec.name,
        weights=engine.spec.weights,
        input_px=(image.shape[-2], image.shape[-1]),
        output_px=size_px,
        device=describe_device(runtime.device),
        dtype=str(runtime.dtype).removeprefix("torch."),
        stages=tuple(stage_reports),
        seconds=time.perf_counter() - started,
        color_fix=mode.value,
        prompt=request.prompt,
        seed=request.seed,
        notes=prepared.notes,
    )
    return Restored(restored, report)


def reference_tile(engine: OneStep, request: Request) -> TileConfig:
    """Return the tile and overlap in use.

    Raises:
        ConfigError: tile or stride is no multiple of 8 px, which the original needs but does not check.
    """
    default = engine.spec.tile
    tile_px = default.tile_px if request.tile_px is None else request.tile_px
    overlap_px = tile_px // 2 if request.overlap_px is None else request.overlap_px
    if tile_px % LATENT_PX or overlap_px % LATENT_PX or overlap_px >= tile_px:
        raise ConfigError(
            f"reference mode needs tile and overlap in multiples of {LATENT_PX} px and an overlap below the "
            f"tile, got tile {tile_px} px, overlap {overlap_px} px"
        )
    return TileConfig(tile_px=tile_px, overlap_px=overlap_px, window=Window.gaussian)


def resize_like_the_original(image_01: Tensor, target: TargetSize, default_scale: float) -> Tensor:
    """Resize bicubically (a = −0.75) without antialiasing; sizes are truncated, not rounded.

    Shapes: [b c h w] → [b c H W], not clamped: overshoot stays.

    Raises:
        ConfigError: a target that the original does not know.
    """
    if target.megapixels is not None:
        raise ConfigError("reference mode knows --scale and --longest-side, as the original, not megapixels")
    bicubic = partial(nn.functional.interpolate, mode="bicubic", align_corners=False)
    if target.longest_side_px is None:
        return bicubic(image_01, scale_factor=float(default_scale if target.scale is None else target.scale))
    h, w = image_01.shape[-2:]
    side = target.longest_side_px
    size = (side, int(w * (side / h))) if h >= w else (int(h * (side / w)), side)
    return bicubic(image_01, size=size)


def original_spans(length_px: int, tile: TileConfig) -> tuple[Span, ...]:
    """Return tiles at every multiple of the stride, and one more at the end where those do not reach it."""
    size = tile.tile_px
    starts = [*range(0, length_px - size + 1, size - tile.overlap_px)]
    if starts[-1] + size != length_px:
        starts.append(length_px - size)
    return tuple((start, size) for start in starts)


def original_weights(spans: Sequence[Span], total: int, *, middle: float) -> tuple[Tensor, ...]:
    """Return Gaussian weights over whole tiles, normalised to sum to 1 along the axis.

    exp(−x²/(2·0.1²)) with x = (i − n/2 + middle)/n for cell i of n. The original puts the middle of columns
    between cells (`middle` 0.5) but that of rows on one (0), as MultiDiffusion's Gaussian window does.
    """
    raw = [
        torch.exp(
            -(((torch.arange(n, dtype=torch.float64) - n / 2 + middle) / n) ** 2) / (2 * GAUSSIAN_SIGMA**2)
        )
        for _, n in spans
    ]
    weight_sum = torch.zeros(total, dtype=torch.float64)
    for (start, n), weights in zip(spans, raw, strict=True):
        weight_sum[start : start + n] += weights
    return tuple(
        (weights / weight_sum[start : start + n]).float()
        for (start, n), weights in zip(spans, raw, strict=True)
    )


def _short_side_to(image_01: Tensor, side_px: int) -> Tensor:
    """Resize with antialiasing so that the short side has `side_px`; the long one follows, truncated."""
    h, w = image_01.shape[-2:]
    size = (side_px, int(w * side_px / h)) if h <= w else (int(h * side_px / w), side_px)
    return nn.functional.interpolate(image_01, size=size, mode="bicubic", antialias=True, align_corners=False)
