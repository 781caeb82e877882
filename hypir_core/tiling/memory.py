"""The memory ladder: tiles at a time → images at a time → tile size → CPU, taken only when memory really ran out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from .geometry import PerAxis, by, per_axis
from .plan import TileConfig, plain

MAX_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """How a stage is being tried."""

    tile: TileConfig
    batch: int
    """Tiles at a time."""
    images: int
    """Images of each tile at a time."""
    device: torch.device


@dataclass(eq=False)
class Ladder:
    """What the stages of one run learnt about memory: a later one of the same kind starts where an earlier one ended."""

    learnt: dict[str, Rung] = field(default_factory=dict)


def tiles_that_fit(tile_area_px: int, bytes_per_px: float, budget_bytes: int) -> int:
    """Return how many tiles of `tile_area_px` output pixels fit the budget: 1 to `MAX_BATCH`."""
    return max(1, min(MAX_BATCH, int(budget_bytes // max(1.0, tile_area_px * bytes_per_px))))


def next_rung(rung: Rung, *, axes: int, grain_px: PerAxis, min_tile_px: PerAxis) -> tuple[Rung, str] | None:
    """Return the next way to try and a sentence that says so, or None on the last rung.

    First the tiles at a time are halved down to 1, then the images at a time, then the tile (and its overlap) down to
    `min_tile_px`, then the stage moves to the CPU.
    """
    if rung.batch > 1:
        fewer = rung.batch // 2
        return replace(rung, batch=fewer), f"tiles per batch {rung.batch} → {fewer}"
    if rung.images > 1:
        fewer = rung.images // 2
        return replace(rung, images=fewer), f"images per batch {rung.images} → {fewer}"
    (tiles, overlaps), grains = rung.tile.sides(axes), per_axis(grain_px, axes)
    halves = tuple(
        half if (half := tile // 2 // grain * grain) >= max(least, grain) else tile
        for tile, grain, least in zip(tiles, grains, per_axis(min_tile_px, axes), strict=True)
    )
    if halves != tiles:
        fitting = tuple(
            min(overlap, max(0, half // 2 // grain * grain)) if half < tile else overlap
            for tile, half, overlap, grain in zip(tiles, halves, overlaps, grains, strict=True)
        )
        tile = replace(rung.tile, tile_px=plain(halves), overlap_px=plain(fitting))
        before, after = (by(sides if len(set(sides)) > 1 else sides[:1]) for sides in (tiles, halves))
        return replace(rung, tile=tile), f"tile {before} → {after} px"
    if rung.device.type != "cpu":
        return replace(rung, device=torch.device("cpu")), f"device {rung.device} → cpu"
    return None


def is_out_of_memory(err: BaseException) -> bool:
    """Tell whether `err` says that memory ran out, on whatever device.

    CUDA and newer MPS raise `torch.OutOfMemoryError`; the CPU allocator and older MPS raise a plain
    RuntimeError that only its text tells apart; Python itself raises MemoryError.
    """
    if isinstance(err, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(err)
    return isinstance(err, RuntimeError) and any(
        mark in text
        for mark in ("can't allocate memory", "MPS backend out of memory", "not enough memory: you tried")
    )
