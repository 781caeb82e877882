"""DDIM (Song et al., arXiv 2010.02502)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .base import Step


@dataclass(frozen=True, kw_only=True)
class Ddim:
    """Eq. 12 with η = 0."""

    history = 0
    stochastic = False

    def move(
        self, x: Tensor, x0: Tensor, step: Step, *, noise: Tensor | None, earlier: Sequence[Tensor]
    ) -> Tensor:
        """Return √ā'·x0 + √(1 − ā')·ε."""
        del noise, earlier
        eps = (x - step.a_bar**0.5 * x0) / (1 - step.a_bar) ** 0.5
        return step.a_bar_next**0.5 * x0 + (1 - step.a_bar_next) ** 0.5 * eps
