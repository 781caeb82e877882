"""DPM-Solver++(2M): the second-order multistep solver, one network call a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...errors import ConfigError
from ...weights.spec import Prediction
from ..prediction import wide
from .base import Step, renoise, require_shape

FEW_STEPS = 15
"""Runs shorter than this end with a first-order step, as in the solver's released code."""


@dataclass(frozen=True, kw_only=True)
class DPMpp2M:
    """Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models", arXiv 2211.01095.

    With λ = ½·log(ā/(1 − ā)), h = λ' − λ and r = (λ − λ_before)/h the clean estimate is carried on linearly in λ,
    D = x0 + (x0 − x0_before)/(2r), and x' = √((1 − ā')/(1 − ā))·x_t − √ā'·(e^(−h) − 1)·D (algorithm 2). With D = x0
    this is the first-order step, which is DDIM's with η = 0, so x' is `renoise` applied to D. The first step is of
    first order, for it has no past; so is one that ends on x0, where h is infinite.
    """

    name: ClassVar[str] = "dpmpp_2m"
    history: ClassVar[int] = 1
    remembers: ClassVar[Prediction] = Prediction.x0
    stochastic: ClassVar[bool] = False

    lower_order_final: bool = True
    """Whether a run of fewer than 15 steps ends with a first-order step, wherever it ends."""

    def move(
        self, x: Tensor, x0: Tensor, step: Step, *, noise: Tensor | None, earlier: Sequence[Tensor]
    ) -> Tensor:
        """See `Sampler.move`."""
        require_shape(x, x0=x0)
        return renoise(x, self._carried_on(x0, step, earlier), step, std=0.0, noise=None)

    def _carried_on(self, x0: Tensor, step: Step, earlier: Sequence[Tensor]) -> Tensor:
        short_end = self.lower_order_final and step.of < FEW_STEPS and step.index == step.of - 1
        if step.a_bar_before is None or step.a_bar_next == 1 or short_end:
            return x0
        if not earlier:
            raise ConfigError(
                f"step {step.index + 1} of {step.of} of {self.name} needs the clean estimate of the step before"
            )
        require_shape(x0, earlier=earlier[0])
        now = _half_log_snr(step.a_bar)
        ratio = (now - _half_log_snr(step.a_bar_before)) / (_half_log_snr(step.a_bar_next) - now)
        x0 = wide(x0)
        return x0 + (x0 - wide(earlier[0])) / (2 * ratio)


def _half_log_snr(a_bar: float) -> float:
    return 0.5 * (math.log(a_bar) - math.log1p(-a_bar))
