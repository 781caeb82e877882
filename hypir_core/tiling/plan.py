"""The tile plan: how many tiles first, then spread them evenly.

There is no sliver and no forced last tile. The nominal tile size may shrink, or grow by at most an eighth, so
that the fewest equal tiles cover the canvas; starts and sizes lie on the engine's grain, and every overlap with
a neighbour is at least the one asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import strict
from ..errors import ConfigError
from .geometry import Box
from .window import Span, Window


@dataclass(frozen=True, kw_only=True)
class TileConfig:
    """What the user may say about tiles."""

    __pydantic_config__ = strict

    tile_px: int = 512
    """Nominal tile side, in output pixels; the plan may shrink it, or grow it by at most an eighth."""
    overlap_px: int = 64
    """Least overlap with a neighbour, in output pixels; more hides seams better and costs time."""
    window: Window = Window.hann
    """Shape of the blend over an overlap."""

    def __post_init__(self) -> None:
        problems = []
        if self.tile_px < 1:
            problems.append(f"tile must be at least 1 px, got {self.tile_px}")
        if self.overlap_px < 0:
            problems.append(f"overlap must not be negative, got {self.overlap_px}")
        elif self.overlap_px >= self.tile_px > 0:
            problems.append(
                f"overlap must be smaller than the tile, got {self.overlap_px} ≥ {self.tile_px} px"
            )
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Where the tiles of one canvas lie, in output pixels: the product of row spans and column spans."""

    height_px: int
    width_px: int
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    window: Window = field(default=Window.hann)

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Every tile, row by row."""
        return tuple(Box(y, x, h, w) for y, h in self.rows for x, w in self.columns)

    @property
    def redundancy(self) -> float:
        """Sum of the tile areas over the canvas area; 1 is no redundant work."""
        return (
            sum(h for _, h in self.rows) * sum(w for _, w in self.columns) / (self.height_px * self.width_px)
        )

    def summary(self) -> str:
        """Return one line for reports: ``2×2 tiles of 576×576 px, redundancy 1.27``."""
        return (
            f"{len(self.rows)}×{len(self.columns)} tiles of {self.rows[0][1]}×{self.columns[0][1]} px, "
            f"redundancy {self.redundancy:.2f}"
        )


def plan_tiles(height_px: int, width_px: int, tile: TileConfig, *, grain_px: int) -> TilePlan:
    """Lay tiles over a canvas.

    Args:
        height_px: canvas height, a multiple of `grain_px`.
        width_px: canvas width, a multiple of `grain_px`.
        tile: nominal size, least overlap, window.
        grain_px: sizes and starts are multiples of this (64 for an SD UNet, 4 for a ×4 generator).

    Raises:
        ConfigError: the tile is smaller than the grain, or the overlap leaves no step between tiles.
    """
    return TilePlan(
        height_px,
        width_px,
        spread(height_px, tile, grain_px=grain_px),
        spread(width_px, tile, grain_px=grain_px),
        tile.window,
    )


def spread(length_px: int, tile: TileConfig, *, grain_px: int) -> tuple[Span, ...]:
    """Return the (start, size) of the fewest equal tiles that cover one axis; see `plan_tiles`."""
    if tile.tile_px < grain_px:
        raise ConfigError(f"tile must be at least {grain_px} px for this engine, got {tile.tile_px} px")
    if length_px % grain_px:
        raise ConfigError(f"canvas side {length_px} px is not a multiple of {grain_px} px")
    cells = length_px // grain_px
    nominal = tile.tile_px // grain_px
    largest = max(nominal, tile.tile_px * 9 // (8 * grain_px))
    overlap = -(-tile.overlap_px // grain_px)
    if overlap >= nominal:
        raise ConfigError(
            f"overlap {tile.overlap_px} px rounds up to {overlap * grain_px} px on a grain of {grain_px} px, "
            f"which leaves nothing of a {tile.tile_px} px tile; make the tile larger or the overlap smaller"
        )
    count = 1 if cells <= largest else -(-(cells - overlap) // (largest - overlap))
    size = cells if count == 1 else -(-(cells + (count - 1) * overlap) // count)
    gaps = max(count - 1, 1)
    starts = [(2 * index * (cells - size) + gaps) // (2 * gaps) for index in range(count)]
    return tuple((start * grain_px, size * grain_px) for start in starts)
