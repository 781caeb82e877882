"""Reference mode: the sizes, tiles and windows of the original HYPIR.

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
from ...tiling.geometry import Plane, by
from ...tiling.plan import TileConfig, TilePlan, TileWish, wished
from ...tiling.window import GAUSSIAN_SIGMA, Span, Window
from .networks import LATENT_PX
from .sizing import Placed, Tiling

REFERENCE_TILE = TileConfig(tile_px=512, overlap_px=256, window=Window.gaussian)
"""The original's patch of 512 px and stride of 256 px; overlap = tile − stride."""


@dataclass(frozen=True, kw_only=True)
class OriginalSizing:
    """The original's rules of size."""

    def place(
        self, image_01: Tensor, size_px: tuple[int, ...], request: Request, *, default_scale: float
    ) -> Placed:
        """Resize as the original does, whose sizes are truncated: `size_px` is not looked at."""
        del size_px
        side_px, _ = reference_tile(request.tile)
        reference = resize_like_the_original(image_01, request.target, default_scale)
        content = reference
        if min(reference.shape[-2:]) <= side_px:
            content = _short_side_to(reference, side_px)
        h, w = content.shape[-2:]
        pad = (0, -w % LATENT_PX, 0, -h % LATENT_PX)
        return Placed(
            plane=Plane(nn.functional.pad(content, pad, value=0.5)), content_px=(h, w), reference_01=reference
        )

    def tiling(self, sizes_px: tuple[int, ...], wish: TileWish) -> Tiling:
        """Lay encode, step and decode on the original's tiles."""
        side_px, overlap_px = reference_tile(wish)
        spans = tuple(original_spans(size, side_px, overlap_px) for size in sizes_px)
        weights = tuple(partial(original_weights, middle=middle) for middle in (0.0, 0.5))
        plan = TilePlan(sizes_px, spans, Window.gaussian)
        return Tiling(sizes_px=sizes_px, plan=plan, weights=weights, grain_px=LATENT_PX)


def reference_tile(wish: TileWish) -> tuple[int, int]:
    """Return the tile's side and the overlap in use.

    Raises:
        ConfigError: tile or stride is no multiple of 8 px, which the original needs but does not check.
    """
    (side_px, *others), overlaps = wished(wish, REFERENCE_TILE, axes=2).sides(2)
    if others != [side_px] or len({*overlaps}) > 1:
        raise ConfigError(f"reference mode knows square tiles only, got {by((side_px, *others))} px")
    if side_px % LATENT_PX or overlaps[0] % LATENT_PX:
        raise ConfigError(
            f"reference mode needs tile and overlap in multiples of {LATENT_PX} px, got tile {side_px} px, "
            f"overlap {overlaps[0]} px"
        )
    return side_px, overlaps[0]


def resize_like_the_original(image_01: Tensor, target: TargetSize, default_scale: float) -> Tensor:
    """Resize bicubically (a = −0.75) without antialiasing; sizes are truncated, not rounded.

    Shapes: [b c h w] → [b c H W], not clamped: overshoot stays.

    Raises:
        ConfigError: a target that the original does not know.
    """
    if target.megapixels is not None or target.shortest_side_px is not None:
        raise ConfigError(
            "reference mode knows a scale and a longest side, as the original, and nothing else"
        )
    bicubic = partial(nn.functional.interpolate, mode="bicubic", align_corners=False)
    if target.longest_side_px is None:
        return bicubic(image_01, scale_factor=float(default_scale if target.scale is None else target.scale))
    h, w = image_01.shape[-2:]
    side = target.longest_side_px
    size = (side, int(w * (side / h))) if h >= w else (int(h * (side / w)), side)
    return bicubic(image_01, size=size)


def original_spans(length_px: int, tile_px: int, overlap_px: int) -> tuple[Span, ...]:
    """Return tiles at every multiple of the stride, and one more at the end where those do not reach it."""
    starts = [*range(0, length_px - tile_px + 1, tile_px - overlap_px)]
    if starts[-1] + tile_px != length_px:
        starts.append(length_px - tile_px)
    return tuple((start, tile_px) for start in starts)


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
