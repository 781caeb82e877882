"""How much of a whole run is done: stages and finishing touches, by their shares of the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..progress import Progress
from .stage import Stage

FINISH_SHARE = 0.05
"""Of the colour fix, and of sharpening, in parts of the stages before them."""


class WholeRun:
    """Counts how much of a whole run is done, from the stages' shares."""

    def __init__(self, progress: Progress, stages: Sequence[Stage], *, touches: Sequence[bool]):
        """Count stages, and the touches after them that are asked for, of `touches`."""
        shares = [stage.share for stage in stages]
        shares += [FINISH_SHARE * sum(shares) * touched for touched in touches]
        whole = sum(shares) or 1.0
        self._progress, self._shares = progress, [share / whole for share in shares]

    def span(self, number: int) -> tuple[float, float]:
        """Return where a stage, or a touch after the last of them, begins and how much of the whole it is."""
        return sum(self._shares[:number]), self._shares[number]

    def of(self, number: int) -> Progress:
        """Return the progress callback of one stage, or of a touch after the last of them."""
        before, share = self.span(number)
        return lambda tick: self._progress(replace(tick, whole=before + share * tick.done / tick.total))
