"""How unsteady a restored clip is, compared with its input."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from ..errors import ShapeError
from ..image.resize import resize


@dataclass(frozen=True, slots=True, kw_only=True)
class Flicker:
    """Mean absolute differences of neighbouring frames, in [0,1], over a clip."""

    given: float
    """Of the input, resized to the result's size."""
    restored: float
    """Of the result."""
    residual: float
    """Of result − resized input: what the restorer changed from frame to frame, motion and light of the input apart."""

    @property
    def ratio(self) -> float:
        """Residual ÷ input: 0 where the same is added to every frame."""
        return _over(self.residual, self.given)

    @property
    def restored_ratio(self) -> float:
        """Result ÷ input: up to 1 where a still shot becomes no less still."""
        return _over(self.restored, self.given)


def flicker(pairs: Iterable[tuple[Tensor, Tensor]]) -> Flicker:
    """Measure a clip; two frames are in memory at a time.

    Args:
        pairs: (input [1 c h w], result [1 c H W]) of every frame, in [0,1], in their order.

    Raises:
        ShapeError: there are fewer than two frames.
    """
    sums, count = [0.0, 0.0, 0.0], 0
    before: tuple[Tensor, Tensor, Tensor] | None = None
    for given, restored in pairs:
        resized = resize(given.float(), (restored.shape[-2], restored.shape[-1])).clamp(0, 1)
        now = (resized, restored.float(), restored.float() - resized)
        if before is not None:
            steps = [float((a - b).abs().mean()) for a, b in zip(now, before, strict=True)]
            sums, count = [total + step for total, step in zip(sums, steps, strict=True)], count + 1
        before = now
    if not count:
        raise ShapeError("expected two frames or more, got fewer; flicker is a difference of neighbours")
    return Flicker(given=sums[0] / count, restored=sums[1] / count, residual=sums[2] / count)


def _over(value: float, given: float) -> float:
    return value / given if given else (0.0 if value == 0 else math.inf)
