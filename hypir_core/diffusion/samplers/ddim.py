"""DDIM: the implicit sampler, deterministic for η = 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...weights.spec import Prediction
from .base import Step, posterior_std, renoise, require_01


@dataclass(frozen=True, kw_only=True)
class DDIM:
    """Song, Meng and Ermon, "Denoising Diffusion Implicit Models", arXiv 2010.02502, eq. 12 and 16."""

    name: ClassVar[str] = "ddim"
    history: ClassVar[int] = 0
    remembers: ClassVar[Prediction] = Prediction.x0

    eta: float = 0.0
    """η, 0 to 1: share of the ancestral sampler's noise. 0 draws nothing; 1 is DDPM."""

    def __post_init__(self) -> None:
        require_01(eta=self.eta)

    @property
    def stochastic(self) -> bool:
        """Whether `move` wants noise: for any η above 0."""
        return self.eta > 0

    def move(
        self, x: Tensor, x0: Tensor, step: Step, *, noise: Tensor | None, earlier: Sequence[Tensor]
    ) -> Tensor:
        """See `Sampler.move`."""
        return renoise(x, x0, step, std=self.eta * posterior_std(step), noise=noise)
