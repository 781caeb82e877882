"""What a run is given by its caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .progress import Progress, ShouldStop, never, silent

Inspect = Callable[[str, Tensor, float], None]
"""(name of what was made, the whole of it, seconds it took) → nothing; may raise."""


def look_at_nothing(_name: str, _values: Tensor, _seconds: float) -> None:
    """Pass by."""


def keep_all() -> None:
    """Give no memory back."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What a run is given by its caller: nothing here is global, nothing here changes the picture's meaning."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch_tiles: int | None = None
    """Tiles per batch; None chooses from the memory budget."""
    batch_images: int | None = None
    """Images of each tile per batch; None chooses from the memory budget."""
    memory_budget_bytes: int | None = None
    """Working memory a batch may take; None asks the device what is free."""
    canvas_device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where the whole picture lies between stages."""
    strip_budget_bytes: int | None = None
    """Of a result that is streamed, the strip that tiles are still added to: a larger one lies in a scratch file.
    None keeps it in memory."""
    progress: Progress = silent
    should_stop: ShouldStop = never
    tidy: Callable[[], None] = keep_all
    """Called after a sample and after a stage that had one: much was freed, and other sizes are wanted next."""
    inspect: Inspect = look_at_nothing
    """Shown what was prepared, what every stage made, and the finished picture: for debugging."""
