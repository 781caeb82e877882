"""What a sampler is, and the steps it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step from a noise level to the next."""

    index: int
    of: int
    t: float
    a_bar: float
    a_bar_next: float
    a_bar_before: float | None = None


class Sampler(Protocol):
    """The rule of a step."""

    @property
    def history(self) -> int:
        """How many earlier clean estimates it wants."""
        ...

    @property
    def stochastic(self) -> bool:
        """Whether it wants noise."""
        ...

    def move(
        self, x: Tensor, x0: Tensor, step: Step, *, noise: Tensor | None, earlier: Sequence[Tensor]
    ) -> Tensor:
        """Return x at the next noise level."""
        ...
