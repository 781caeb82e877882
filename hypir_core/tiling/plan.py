"""The tile plan: how many tiles first, then spread them evenly.

There is no sliver and no forced last tile. The nominal tile size may shrink, or grow by at most an eighth, so
that the fewest equal tiles cover the canvas; starts and sizes lie on the engine's grain, and every overlap with
a neighbour is at least the one asked for. Axes are planned one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod

from ..config import strict
from ..errors import ConfigError
from .geometry import Box, PerAxis, by, per_axis
from .window import Span, Window


def _problems(tile_px: PerAxis | None, overlap_px: PerAxis | None) -> list[str]:
    """Return what is wrong with a tile and an overlap, each of which may be left open."""
    tiles, overlaps = _numbers(tile_px), _numbers(overlap_px)
    if any(tile < 1 for tile in tiles):
        return [f"tile must be at least 1 px, got {by(tiles)}"]
    if any(overlap < 0 for overlap in overlaps):
        return [f"overlap must not be negative, got {by(overlaps)}"]
    axes = max(len(tiles), len(overlaps))
    if len({len(tiles), len(overlaps)} - {0, 1}) > 1:
        return [f"tile and overlap must have one number, or one per axis, got {by(tiles)} and {by(overlaps)}"]
    if tiles and overlaps:
        pairs = zip(per_axis_of(tiles, axes), per_axis_of(overlaps, axes), strict=True)
        if any(overlap >= tile for tile, overlap in pairs):
            return [f"overlap must be smaller than the tile, got {by(overlaps)} ≥ {by(tiles)} px"]
    return []


def _numbers(value: PerAxis | None) -> tuple[int, ...]:
    return () if value is None else (value,) if isinstance(value, int) else tuple(value)


def per_axis_of(numbers: Sequence[int], axes: int) -> tuple[int, ...]:
    """Return the numbers, or the only one for every axis."""
    return tuple(numbers) * (axes if len(numbers) == 1 else 1)


@dataclass(frozen=True, kw_only=True)
class TileConfig:
    """The tiles of a stage."""

    __pydantic_config__ = strict

    tile_px: PerAxis = 512
    """Nominal tile side, in output pixels; the plan may shrink it, or grow it by at most an eighth."""
    overlap_px: PerAxis = 64
    """Least overlap with a neighbour, in output pixels; more hides seams better and costs time."""
    window: Window = Window.hann
    """Shape of the blend over an overlap."""

    def __post_init__(self) -> None:
        if problems := _problems(self.tile_px, self.overlap_px):
            raise ConfigError(problems)

    def sides(self, axes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the tile's side and the overlap along each of `axes` axes."""
        return per_axis(self.tile_px, axes), per_axis(self.overlap_px, axes)


@dataclass(frozen=True, kw_only=True)
class TileWish:
    """What a user may say about tiles; what is None is left to the stage."""

    __pydantic_config__ = strict

    tile_px: PerAxis | None = None
    """Nominal tile side, in output pixels."""
    overlap_px: PerAxis | None = None
    """Least overlap of neighbouring tiles, in output pixels."""
    window: Window | None = None
    """Shape of the blend."""
    may_shrink: bool = False
    """Whether tiles that are named shrink, as a stage's own do, until one of them fits into memory."""

    def __post_init__(self) -> None:
        if problems := _problems(self.tile_px, self.overlap_px):
            raise ConfigError(problems)

    @property
    def names_tiles(self) -> bool:
        """Whether tiles are laid as asked: memory does not shrink them beforehand."""
        return not self.may_shrink and (self.tile_px is not None or self.overlap_px is not None)


def wished(wish: TileWish, own: TileConfig, *, axes: int) -> TileConfig:
    """Return a stage's tiles with what a user said about them.

    The one rule for an overlap that nobody names: the stage's own, but of a smaller tile at most the same part as of
    the stage's own tile, or a quarter where that is more.

    Raises:
        ConfigError: the overlap asked for leaves nothing of the stage's tile.
    """
    window = own.window if wish.window is None else wish.window
    tiles, overlaps = own.sides(axes)
    if wish.tile_px is not None:
        asked = per_axis(wish.tile_px, axes)
        overlaps = tuple(
            min(overlap, max(tile // 4, tile * overlap // side))
            for tile, side, overlap in zip(asked, tiles, overlaps, strict=True)
        )
        tiles = asked
    if wish.overlap_px is not None:
        overlaps = per_axis(wish.overlap_px, axes)
    return TileConfig(tile_px=plain(tiles), overlap_px=plain(overlaps), window=window)


def plain(numbers: tuple[int, ...]) -> PerAxis:
    """Return one number where all are the same."""
    return numbers[0] if len(set(numbers)) == 1 else numbers


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Where the tiles of one canvas lie, in output pixels: the product of the spans of its axes."""

    sizes_px: tuple[int, ...]
    axes: tuple[tuple[Span, ...], ...]
    """(start, size) of every tile along every axis."""
    window: Window = field(default=Window.hann)

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Every tile; the last axis runs quickest."""
        return tuple(
            Box(tuple(start for start, _ in spans), tuple(size for _, size in spans))
            for spans in product(*self.axes)
        )

    @property
    def counts(self) -> tuple[int, ...]:
        """How many tiles lie along every axis."""
        return tuple(map(len, self.axes))

    @property
    def tile_sizes_px(self) -> tuple[int, ...]:
        """Size of the first tile, which none exceeds."""
        return tuple(spans[0][1] for spans in self.axes)

    @property
    def tile_area_px(self) -> int:
        """Output pixels of one tile."""
        return prod(self.tile_sizes_px)

    @property
    def redundancy(self) -> float:
        """Sum of the tile areas over the canvas area; 1 is no redundant work."""
        return prod(sum(size for _, size in spans) for spans in self.axes) / prod(self.sizes_px)

    def summary(self) -> str:
        """Return one line for reports: ``2×2 tiles of 576×576 px, redundancy 1.27``."""
        return f"{by(self.counts)} tiles of {by(self.tile_sizes_px)} px, redundancy {self.redundancy:.2f}"


def whole_plan(sizes_px: Sequence[int]) -> TilePlan:
    """Return the plan of one tile that is the canvas."""
    return TilePlan(tuple(sizes_px), tuple(((0, size),) for size in sizes_px))


def plan_tiles(sizes_px: Sequence[int], tile: TileConfig, *, grain_px: PerAxis) -> TilePlan:
    """Lay tiles over a canvas.

    Args:
        sizes_px: size of the canvas along every axis, multiples of the grain.
        tile: nominal size, least overlap, window.
        grain_px: sizes and starts are multiples of this (64 for an SD UNet, 4 for a ×4 generator).

    Raises:
        ConfigError: the tile is smaller than the grain, or the overlap leaves no step between tiles.
    """
    n = len(sizes_px)
    spans = (spread(*axis) for axis in zip(sizes_px, *tile.sides(n), per_axis(grain_px, n), strict=True))
    return TilePlan(tuple(sizes_px), tuple(spans), tile.window)


def spread(length_px: int, tile_px: int, overlap_px: int, grain_px: int) -> tuple[Span, ...]:
    """Return the (start, size) of the fewest equal tiles that cover one axis; see `plan_tiles`."""
    if tile_px < grain_px:
        raise ConfigError(f"tile must be at least {grain_px} px for this engine, got {tile_px} px")
    if length_px % grain_px:
        raise ConfigError(f"canvas side {length_px} px is not a multiple of {grain_px} px")
    cells = length_px // grain_px
    nominal = tile_px // grain_px
    largest = max(nominal, tile_px * 9 // (8 * grain_px))
    overlap = -(-overlap_px // grain_px)
    if overlap >= nominal:
        raise ConfigError(
            f"overlap {overlap_px} px rounds up to {overlap * grain_px} px on a grain of {grain_px} px, "
            f"which leaves nothing of a {tile_px} px tile; make the tile larger or the overlap smaller"
        )
    count = 1 if cells <= largest else -(-(cells - overlap) // (largest - overlap))
    size = cells if count == 1 else -(-(cells + (count - 1) * overlap) // count)
    gaps = max(count - 1, 1)
    starts = [(2 * index * (cells - size) + gaps) // (2 * gaps) for index in range(count)]
    return tuple((start * grain_px, size * grain_px) for start in starts)


def smaller(tile: TileConfig, axes: int, *, by_px: PerAxis, least_px: PerAxis) -> TileConfig | None:
    """Return tiles one grain (`by_px`) shorter along every axis that may still shrink; None where none may."""
    tiles, _ = tile.sides(axes)
    steps = zip(tiles, per_axis(by_px, axes), per_axis(least_px, axes), strict=True)
    shorter = tuple(side - step if side - step >= least else side for side, step, least in steps)
    return None if shorter == tiles else replace(tile, tile_px=plain(shorter))
