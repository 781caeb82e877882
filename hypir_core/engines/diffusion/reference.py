"""Reference mode: one-step restoration with the sizes, tiles and windows of the original implementation.

For comparisons. Bicubic resizing without antialiasing, short sides enlarged to one tile whatever the long
side becomes, mid-grey padding to 8 px, tiles at every multiple of the stride plus one at the end, Gaussian
windows over whole tiles. Two things differ on purpose: the posterior's mean is taken instead of a random
sample, and tiles are blended in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...image.size import TargetSize
from ...request import Request
from ...tiling.geometry import Plane
from ...tiling.plan import TileConfig, TilePlan
from ...tiling.run import Stage
from ...tiling.window import GAUSSIAN_SIGMA, Span, Window
from ..base import Prepared
from .engine import LATENT_PX, OneStep, one_step_stages

REFERENCE_TILE = TileConfig(tile_px=512, overlap_px=256, window=Window.gaussian)
"""The original's patch of 512 px and stride of 256 px."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OneStepReference(OneStep):
    """`OneStep` by the original's rules; overlap = tile − stride."""

    def prepare(self, image_01: Tensor, size_px: tuple[int, int], request: Request) -> Prepared:
        """Resize as the original does, whose sizes are truncated: `size_px` is not looked at."""
        del size_px
        tile = reference_tile(self, request)
        reference = resize_like_the_original(image_01, request.target, self.spec.default_scale)
        content = reference
        if min(reference.shape[-2:]) <= tile.tile_px:
            content = _short_side_to(reference, tile.tile_px)
        h, w = content.shape[-2:]
        pad = (0, -w % LATENT_PX, 0, -h % LATENT_PX)
        return Prepared(
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
