"""Progress and cancellation: two callbacks that the caller injects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Tick:
    """One step forward inside a stage."""

    stage: str
    """Name of the stage: ``encode``, ``step 1/4``, ``decode`` …"""
    done: int
    """Tiles finished in this stage."""
    total: int
    """Tiles of this stage."""
    canvas_bchw: Tensor
    """The stage's output so far (float32, the stage's own value range), filling in tile by tile. Do not write."""


Progress = Callable[[Tick], None]
Cancelled = Callable[[], bool]


def silent(_tick: Tick) -> None:
    """Report nothing."""


def never() -> bool:
    """Never cancel."""
    return False
