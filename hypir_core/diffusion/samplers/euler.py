"""Euler: one straight step along the probability flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...weights.spec import Prediction
from .base import Step, renoise


@dataclass(frozen=True, kw_only=True)
class Euler:
    """Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv 2206.00364, eq. 3.

    With y = x_t/√ā and σ = √((1 − ā)/ā) the flow is dy/dσ = (y − x0)/σ. One Euler step from σ to σ' is
    y' = x0 + σ'·(y − x0)/σ. Back in x this reads √ā'·x0 + √(1 − ā')·(x_t − √ā·x0)/√(1 − ā): DDIM with η = 0.
    It is computed in that form, because σ reaches 2·10⁴ on a cosine schedule, where y and x0 differ in float32's
    last digits only. The samplers differ in the timesteps that diffusers gives them (`timesteps`, `whole`).
    """

    name: ClassVar[str] = "euler"
    history: ClassVar[int] = 0
    remembers: ClassVar[Prediction] = Prediction.x0
    stochastic: ClassVar[bool] = False

    def move(
        self, x: Tensor, x0: Tensor, step: Step, *, noise: Tensor | None, earlier: Sequence[Tensor]
    ) -> Tensor:
        """See `Sampler.move`."""
        return renoise(x, x0, step, std=0.0, noise=None)
