"""What the first step of a run begins with."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ...diffusion.samplers.base import Step
from .noise import NoiseSource

Start = Callable[[Tensor, Step, NoiseSource], Tensor]
"""(canvas of the degraded picture [b c *cells], first step, noise) → x at the first step."""


def as_is(canvas: Tensor, step: Step, noise: NoiseSource) -> Tensor:
    """Take the degraded picture for a noised clean one: nothing is added."""
    del step, noise
    return canvas


def from_noise(canvas: Tensor, step: Step, noise: NoiseSource) -> Tensor:
    """Begin with noise alone, scaled to the first step: √(1 − ā)·ε."""
    return noise.like(canvas, 0) * (1 - step.a_bar) ** 0.5


def noised(canvas: Tensor, step: Step, noise: NoiseSource) -> Tensor:
    """Begin with the degraded picture and noise, √ā·z + √(1 − ā)·ε (Ho et al., arXiv 2006.11239, eq. 4)."""
    return step.a_bar**0.5 * canvas + (1 - step.a_bar) ** 0.5 * noise.like(canvas, 0)


def noised_to(a_bar: float) -> Start:
    """Return the start of a step that predicts at another timestep than that of the noise: ā is the noise's."""

    def start(canvas: Tensor, step: Step, noise: NoiseSource) -> Tensor:
        del step
        return a_bar**0.5 * canvas + (1 - a_bar) ** 0.5 * noise.like(canvas, 0)

    return start
