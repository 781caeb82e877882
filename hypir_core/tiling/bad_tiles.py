"""Tiles that went wrong: not finite, nearly constant, or left as they were while their neighbours changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from statistics import median

import torch
from torch import Tensor

from ..errors import RangeError
from .geometry import Box
from .stage import Watch

FLAT = 1e-3
"""A result is nearly constant when no channel deviates from its mean by more of its largest value than this,"""

LIVELY = 2e-2
"""and wrong when its input deviates by more than this, of its largest value and in units of the network: a lens cap, a
blank page or a dark field with nothing but noise is not."""

IDLE = 0.1
"""A tile is idle when it changed by less than this part of what its neighbours changed."""

Repeat = Callable[[Tensor], Tensor]
"""Indices [k] of a batch's tiles → the same tiles made again, in float32."""


@dataclass(eq=False)
class TileWatch:
    """Looks at every tile of one stage, has a wrong one made again once, and remembers what to report."""

    stage: str
    looks_for: Watch = field(default_factory=Watch)
    notes: list[str] = field(default_factory=list)

    def mended(self, tiles: Tensor, inputs: Tensor, boxes: Sequence[Box], repeat: Repeat | None) -> Tensor:
        """Return `tiles` with the wrong ones made again.

        Args:
            tiles: what the stage made, [n c *cells].
            inputs: of what, [n c' *cells'].
            boxes: where, for the report; each holds n / len(boxes) images.
            repeat: None where a stage cannot do it another way; then a constant tile is only reported.

        Raises:
            RangeError: NaN or infinity, in float32 too.
        """
        broken = not_finite(tiles)
        constant = torch.zeros_like(broken)
        if self.looks_for.flat:
            constant = flat(tiles, FLAT) & ~flat(inputs, LIVELY, least=1.0)
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

    def idle(self, changes: Sequence[float], counts: Sequence[int]) -> list[int]:
        """Return the tiles that changed far less than their neighbours did.

        Args:
            changes: `change` of every tile, the last axis running quickest; 0 for one that was left as it was.
            counts: tiles along every axis.
        """
        of_place = dict(zip(product(*map(range, counts)), changes, strict=False))
        found = []
        for i, (place, own) in enumerate(of_place.items()):
            around = product(*(range(at - 1, at + 2) for at in place))
            beside = [of_place[other] for other in around if other != place and other in of_place]
            if beside and own < IDLE * median(beside):
                found.append(i)
        return found

    def report_idle(self, box: Box, *, moved: bool | None) -> None:
        """Note an idle tile: `moved` says whether float32 made a difference, None that it was not tried."""
        outcomes = {None: "", True: "; repeated in float32", False: "; the same in float32"}
        self.notes.append(f"{self._place(box)}: changed far less than its neighbours{outcomes[moved]}")

    def _place(self, box: Box) -> str:
        names = "xyz"[: len(box.starts)] if len(box.starts) < 4 else ()
        at = ", ".join(f"{name} {start}" for name, start in zip(names, reversed(box.starts), strict=False))
        return f"{self.stage}: tile at {at or box.starts}"


def not_finite(tiles: Tensor) -> Tensor:
    """Say which of [n c *cells] hold NaN or infinity, [n]."""
    return ~tiles.isfinite().flatten(1).all(1)


def flat(tiles: Tensor, limit: float, *, least: float = 0.0) -> Tensor:
    """Say which of [n c *cells] are constant but for `limit` of their largest value, [n]; NaN is not.

    The largest value counts as `least` where it is smaller.
    """
    pixels = tiles.detach().float().flatten(2)
    deviation = pixels.std(-1, correction=0).amax(1)
    return deviation <= limit * pixels.abs().amax((1, 2)).clamp_min(least)


def change(before: Tensor, after: Tensor) -> float:
    """Return how much of `after` is no multiple of `before`, both of one shape: 0 (all the same) to 1.

    √(1 − cos²) of the angle between them: a step that predicts nothing only scales its input.
    """
    a, b = before.flatten().double(), after.to(before.device).flatten().double()
    cosine = torch.dot(a, b) / (a.norm() * b.norm()).clamp_min(1e-30)
    return float((1 - cosine.square()).clamp_min(0).sqrt())
