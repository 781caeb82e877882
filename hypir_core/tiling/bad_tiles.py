"""Tiles that went wrong: not finite, nearly constant, or left as they were while their neighbours changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor

from ..errors import RangeError
from .geometry import Box

FLAT = 1e-3
"""A result is nearly constant when no channel deviates from its mean by more of its largest value than this,"""

LIVELY = 2e-2
"""and wrong when its input deviates by more than this: a lens cap or a blank page is not."""

IDLE = 0.1
"""A tile is idle when it changed by less than this part of what its neighbours changed."""

Repeat = Callable[[Tensor], Tensor]
"""Indices [k] of a batch's tiles → the same tiles made again, in float32."""


@dataclass(eq=False)
class TileWatch:
    """Looks at every tile of one stage, has a wrong one made again once, and remembers what to report."""

    stage: str
    notes: list[str] = field(default_factory=list)

    def mended(self, tiles: Tensor, inputs: Tensor, boxes: Sequence[Box], repeat: Repeat | None) -> Tensor:
        """Return `tiles` with the wrong ones made again.

        Args:
            tiles: what the stage made, [n c h w].
            inputs: of what, [n c' h' w'].
            boxes: where, for the report; each holds n / len(boxes) images.
            repeat: None where a stage cannot do it another way; then a constant tile is only reported.

        Raises:
            RangeError: NaN or infinity, in float32 too.
        """
        broken, constant = not_finite(tiles), flat(tiles, FLAT) & ~flat(inputs, LIVELY)
        wrong = (broken | constant).nonzero().flatten()
        if not len(wrong):
            return tiles
        if repeat is not None:
            tiles = tiles.float().index_copy(0, wrong, repeat(wrong).float())
        hopeless = not_finite(tiles)
        images = len(tiles) // len(boxes)
        for i in wrong.tolist():
            place = self._place(boxes[i // images])
            if hopeless[i]:
                how = "even in float32" if repeat else "and this stage cannot be repeated in float32"
                raise RangeError(
                    f"{place}: NaN or infinity, {how}; the weights do not fit each other, are damaged, or need a "
                    "wider number format"
                )
            what = "NaN or infinity" if broken[i] else "nearly constant"
            self.notes.append(f"{place}: {what}" + ("; repeated in float32" if repeat else ""))
        return tiles

    def idle(self, changes: Sequence[float], columns: int) -> list[int]:
        """Return the tiles, in rows of `columns`, that changed far less than their neighbours did.

        Args:
            changes: `change` of every tile; 0 for one that was left as it was.
            columns: tiles in a row.
        """
        found = []
        for i, own in enumerate(changes):
            row, column = divmod(i, columns)
            beside = [
                changes[r * columns + c]
                for r in range(max(0, row - 1), min(len(changes) // columns, row + 2))
                for c in range(max(0, column - 1), min(columns, column + 2))
                if (r, c) != (row, column)
            ]
            if beside and own < IDLE * median(beside):
                found.append(i)
        return found

    def report_idle(self, box: Box, *, moved: bool | None) -> None:
        """Note an idle tile: `moved` says whether float32 made a difference, None that it was not tried."""
        outcomes = {None: "", True: "; repeated in float32", False: "; the same in float32"}
        self.notes.append(f"{self._place(box)}: changed far less than its neighbours{outcomes[moved]}")

    def _place(self, box: Box) -> str:
        return f"{self.stage}: tile at x {box.x}, y {box.y}"


def not_finite(tiles: Tensor) -> Tensor:
    """Say which of [n c h w] hold NaN or infinity, [n]."""
    return ~tiles.isfinite().flatten(1).all(1)


def flat(tiles: Tensor, limit: float) -> Tensor:
    """Say which of [n c h w] are constant but for `limit` of their largest value, [n]; NaN is not."""
    pixels = tiles.detach().float().flatten(2)
    deviation = pixels.std(-1, correction=0).amax(1)
    return deviation <= limit * pixels.abs().amax((1, 2))


def change(before: Tensor, after: Tensor) -> float:
    """Return how much of `after` is no multiple of `before`, both of one shape: 0 (all the same) to 1.

    √(1 − cos²) of the angle between them: a step that predicts nothing only scales its input.
    """
    a, b = before.flatten().double(), after.to(before.device).flatten().double()
    cosine = torch.dot(a, b) / (a.norm() * b.norm()).clamp_min(1e-30)
    return float((1 - cosine.square()).clamp_min(0).sqrt())
