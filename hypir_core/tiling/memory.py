"""The memory ladder: batch → tile → CPU, taken only when memory really ran out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from .plan import TileConfig

MAX_BATCH = 64


@dataclass(frozen=True, slots=True)
class Rung:
    """How a stage is being tried."""

    tile: TileConfig
    batch: int
    device: torch.device


def batch_that_fits(tile_area_px: int, bytes_per_px: float, budget_bytes: int) -> int:
    """Return how many tiles of `tile_area_px` output pixels fit the budget: 1 to `MAX_BATCH`."""
    return max(1, min(MAX_BATCH, int(budget_bytes // max(1.0, tile_area_px * bytes_per_px))))


def next_rung(rung: Rung, *, grain_px: int, min_tile_px: int) -> tuple[Rung, str] | None:
    """Return the next way to try and a sentence that says so, or None on the last rung.

    First the batch is halved down to 1, then the tile (and its overlap) down to `min_tile_px`, then the
    stage moves to the CPU.
    """
    if rung.batch > 1:
        fewer = rung.batch // 2
        return replace(rung, batch=fewer), f"tiles per batch {rung.batch} → {fewer}"
    half = rung.tile.tile_px // 2 // grain_px * grain_px
    if half >= max(min_tile_px, grain_px):
        overlap = min(rung.tile.overlap_px, max(0, half // 2 // grain_px * grain_px))
        tile = replace(rung.tile, tile_px=half, overlap_px=overlap)
        return replace(rung, tile=tile), f"tile {rung.tile.tile_px} → {half} px"
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
