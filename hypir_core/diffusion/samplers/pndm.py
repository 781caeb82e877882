"""PNDM: fixed weights on the last four noise estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...weights.spec import Prediction
from .base import Step, renoise
from .multistep import straight

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights by order, newest first, for steps of equal length."""


@dataclass(frozen=True, kw_only=True)
class PNDM:
    """Liu et al., "Pseudo Numerical Methods for Diffusion Models on Manifolds", arXiv 2202.09778, eq. 9 and 12.

    Without the Runge-Kutta start: the first steps are of lower order, so every step is one call of the network. The
    weights belong to timesteps of equal distance.
    """

    name: ClassVar[str] = "pndm"
    history: ClassVar[int] = 3
    remembers: ClassVar[Prediction] = Prediction.eps
    stochastic: ClassVar[bool] = False

    lower_order_final: bool = True
    """Whether a step that ends without noise ends on the clean estimate of that step alone."""

    def move(
        self, x: Tensor, x0: Tensor, step: Step, *, noise: Tensor | None, earlier: Sequence[Tensor]
    ) -> Tensor:
        """See `Sampler.move`."""
        if step.a_bar_next == 1 and self.lower_order_final:
            return renoise(x, x0, step, std=0.0, noise=None)
        known = 0 if step.a_bar_before is None else 1 + len(step.a_bars_earlier)
        weights = ADAMS_BASHFORTH[min(known, self.history)]
        return straight(x, x0, step, name=self.name, weights=weights, earlier=earlier)
