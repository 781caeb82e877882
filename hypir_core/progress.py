"""Progress and cancellation: two callbacks that the caller injects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    canvas: Tensor
    """The stage's output so far, [b c *cells] (float32, the stage's own value range), filling in tile by tile. Do not
    write."""
    whole: float = 0.0
    """Part of the whole run that is done, 0 to 1."""


Progress = Callable[[Tick], None]
ShouldStop = Callable[[], bool]


def silent(_tick: Tick) -> None:
    """Report nothing."""


def never() -> bool:
    """Never cancel."""
    return False


def duration(seconds: float) -> str:
    """Return a time as people say it: ``0.4 s``, ``12 s``, ``3 min 20 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
