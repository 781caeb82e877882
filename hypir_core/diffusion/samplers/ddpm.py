"""DDPM: the ancestral sampler that diffusion began with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from torch import Tensor

from ...weights.spec import Prediction
from .base import Step, posterior_std, renoise


class Variance(str, Enum):
    """Variance of the noise of a step (Ho et al., arXiv 2006.11239, section 3.2)."""

    fixed_small = "fixed_small"
    """That of the posterior, right for data that is one point: the step is DDIM's with η = 1."""
    fixed_large = "fixed_large"
    """1 − ā/ā' (β for neighbouring timesteps), right for data that is standard normal."""


@dataclass(frozen=True, kw_only=True)
class DDPM:
    """Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, eq. 6, 7 and algorithm 2.

    The mean of the posterior, (√ā'·β·x0 + √(ā/ā')·(1 − ā')·x_t) / (1 − ā) with β = 1 − ā/ā', is the mean of
    `renoise` with the posterior's variance. A step that ends on x0 draws no noise (algorithm 2: z = 0 for t = 1).
    """

    name: ClassVar[str] = "ddpm"
    history: ClassVar[int] = 0
    remembers: ClassVar[Prediction] = Prediction.x0
    stochastic: ClassVar[bool] = True

    variance: Variance = Variance.fixed_small
    """How much noise a step adds."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "variance", Variance(self.variance))

    def move(
        self, x: Tensor, x0: Tensor, step: Step, *, noise: Tensor | None, earlier: Sequence[Tensor]
    ) -> Tensor:
        """See `Sampler.move`."""
        std = posterior_std(step)
        large = self.variance is Variance.fixed_large and step.a_bar_next < 1
        scale = math.sqrt(1 - step.a_bar / step.a_bar_next) / std if large else 1.0
        return renoise(x, x0, step, std=std, noise=noise, noise_scale=scale)
