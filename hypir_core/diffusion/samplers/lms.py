"""LMS: a polynomial through the last noise estimates, integrated over the noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from ...errors import ConfigError
from ...weights.spec import Prediction
from .base import Step, renoise
from .multistep import straight

MOST = 4
"""Highest order: more points make the polynomial swing."""


@dataclass(frozen=True, kw_only=True)
class LMS:
    """Linear multistep of Adams and Bashforth in σ = √((1 − ā)/ā), for steps of any length.

    The flow is dy/dσ = ε with y = x_t/√ā (Karras et al., arXiv 2206.00364, eq. 3). The polynomial through the last ε
    is integrated from σ to σ' (Hairer, Nørsett and Wanner, "Solving Ordinary Differential Equations I", III.5).
    """

    name: ClassVar[str] = "lms"
    history: ClassVar[int] = MOST - 1
    remembers: ClassVar[Prediction] = Prediction.eps
    stochastic: ClassVar[bool] = False

    order: int = MOST
    """How many estimates make the polynomial, 1 to 4; 1 is Euler's rule."""
    lower_order_final: bool = True
    """Whether a step that ends without noise ends on the clean estimate of that step alone."""

    def __post_init__(self) -> None:
        if not 1 <= self.order <= MOST:
            raise ConfigError(f"order must lie in 1 … {MOST}, got {self.order}")

    def move(
        self, x: Tensor, x0: Tensor, step: Step, *, noise: Tensor | None, earlier: Sequence[Tensor]
    ) -> Tensor:
        """See `Sampler.move`."""
        if step.a_bar_next == 1 and self.lower_order_final:
            return renoise(x, x0, step, std=0.0, noise=None)
        before = () if step.a_bar_before is None else (step.a_bar_before, *step.a_bars_earlier)
        sigmas = [_sigma(a_bar) for a_bar in (step.a_bar, *before)][: self.order]
        coefficients = lms_coefficients(sigmas, _sigma(step.a_bar_next))
        way = sum(coefficients)
        weights = [each / way for each in coefficients]
        return straight(x, x0, step, name=self.name, weights=weights, earlier=earlier)


def lms_coefficients(sigmas: Sequence[float], end: float) -> tuple[float, ...]:
    """Return ∫ L_k dσ from ``sigmas[0]`` to `end`: L_k is 1 at ``sigmas[k]`` and 0 at the others. Newest first.

    They sum to end − sigmas[0]. Gauss and Legendre's two points integrate polynomials up to the third degree exactly.
    """
    middle, half = (sigmas[0] + end) / 2, (end - sigmas[0]) / 2
    points = middle + half * np.array([-1, 1]) / np.sqrt(3.0)
    found = []
    for k, here in enumerate(sigmas):
        others = [sigma for j, sigma in enumerate(sigmas) if j != k]
        values = np.prod([(points - sigma) / (here - sigma) for sigma in others], axis=0) * np.ones(2)
        found.append(float(half * values.sum()))
    return tuple(found)


def _sigma(a_bar: float) -> float:
    return ((1 - a_bar) / a_bar) ** 0.5
