"""Euler ancestral: an Euler step below the next noise level, then noise up to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...errors import ConfigError
from ...weights.spec import Prediction
from .base import Step, posterior_std, renoise, require_01


@dataclass(frozen=True, kw_only=True)
class EulerAncestral:
    """The sampler that k-diffusion (Crowson) made known as "Euler a".

    In y = x_t/√ā and σ = √((1 − ā)/ā): σ_up = η·σ'·√(1 − σ'²/σ²), σ_down = √(σ'² − σ_up²), an Euler step from σ to
    σ_down, then σ_up·z. Since 1 − σ'²/σ² = (1 − ā/ā')/(1 − ā), √ā'·σ_up is η times `posterior_std` and √ā'·σ_down is
    √(1 − ā' − s²): the step is `renoise`, and with `s_noise` 1 it is DDIM's with the same η.
    """

    name: ClassVar[str] = "euler_ancestral"
    history: ClassVar[int] = 0
    remembers: ClassVar[Prediction] = Prediction.x0

    eta: float = 1.0
    """η, 0 to 1: share of the noise that is drawn anew. 0 is Euler."""
    s_noise: float = 1.0
    """The new noise is multiplied by it. Above 1 gives more grain, below 1 a smoother picture."""

    def __post_init__(self) -> None:
        require_01(eta=self.eta)
        if not 0 <= self.s_noise < math.inf:
            raise ConfigError(f"s_noise must be 0 or more, got {self.s_noise}")

    @property
    def stochastic(self) -> bool:
        """Whether `move` wants noise."""
        return self.eta * self.s_noise > 0

    def move(
        self, x: Tensor, x0: Tensor, step: Step, *, noise: Tensor | None, earlier: Sequence[Tensor]
    ) -> Tensor:
        """See `Sampler.move`."""
        return renoise(x, x0, step, std=self.eta * posterior_std(step), noise=noise, noise_scale=self.s_noise)
