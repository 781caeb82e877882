"""Edits that move the clean estimate of a network towards what the microscope measured."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.samplers.base import Step
from ..errors import ConfigError
from ..image.ranges.line import Range
from .choices import Rule, Term
from .data_terms import FLOOR, Measurement, anscombe, gradient

log = logging.getLogger(__name__)


SEED_BASE, SEED_GUARD, SEED_STEPS, SEED_THRESHOLD = 0.1, 1e-3, 1000, 800


@dataclass(frozen=True, kw_only=True, eq=False)
class Guidance:
    """An `X0Edit`: network units → electrons → correction → network units. Every image of a batch on its own."""

    measured: Measurement
    """y in electrons, on the canvas."""
    units: Range
    """From electrons (its file values) to network values; its clips are not used."""
    term: Term = Term.pkl
    """Which distance is reduced."""
    rule: Rule = Rule.multiplicative
    """How."""
    strength: float = 0.8
    """s, 0 or more; 0 changes nothing."""
    begins: float = 0.0
    """0 to 1: the part of the steps that passes before guidance begins. The last step is always guided."""
    floor_e: float = 0.0
    """The estimate is raised to it first: `multiplicative` cannot make light where there is none."""
    repeats: int = 1
    """How often the rule is applied in a step."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "term", Term(self.term))
        object.__setattr__(self, "rule", Rule(self.rule))
        problems = []
        if not (self.strength >= 0 and math.isfinite(self.strength)):
            problems.append(f"guidance: strength must be 0 or more, got {self.strength:g}")
        if not 0 <= self.begins <= 1:
            problems.append(f"guidance: begins must lie in 0 … 1, got {self.begins:g}")
        if self.floor_e < 0:
            problems.append(f"guidance: floor_e must be 0 or more, got {self.floor_e:g}")
        if self.repeats < 1:
            problems.append(f"guidance: repeats must be 1 or more, got {self.repeats}")
        if problems:
            raise ConfigError(problems)

    def __call__(self, x0: Tensor, step: Step) -> Tensor:
        """See `X0Edit`."""
        is_last = step.index == step.of - 1
        if self.strength == 0 or (not is_last and step.index / step.of < self.begins):
            return x0
        middle, width = (self._of_channels(each, x0) for each in (self.units.middle, self.units.width))
        anchor = (x0 * width + middle).clamp(min=self.floor_e)
        x = anchor
        for _ in range(self.repeats):
            x = self._moved(x, anchor, step, width)
        guided = (x - middle) / width
        usable = guided.isfinite()
        if not bool(usable.all()):
            log.warning(
                "step %d of %d: guidance gave %d values that are no numbers; the estimate is kept there",
                step.index + 1,
                step.of,
                int((~usable).sum()),
            )
            guided = torch.where(usable, guided, x0)
        return guided

    def _of_channels(self, numbers: tuple[float, ...], x0: Tensor) -> Tensor:
        return torch.tensor(numbers, dtype=x0.dtype, device=x0.device).reshape(1, -1, *[1] * (x0.ndim - 2))

    def _moved(self, x: Tensor, anchor: Tensor, step: Step, width: Tensor) -> Tensor:
        g = gradient(self.term, x, self.measured)
        if self.rule is Rule.seed:
            return (x - self.strength * seed_step(g, step.t) * g).clamp(min=0)
        seen = self.measured.sensitivity(x)
        if self.rule is Rule.multiplicative:
            ratio = torch.where(seen > FLOOR, g / seen.clamp(min=FLOOR), torch.zeros_like(g))
            return (x * (1 - self.strength * ratio)).clamp(min=0)
        return self._towards(x, anchor, g, seen, self.strength * (1 - step.a_bar) * width.square())

    def _towards(self, x: Tensor, anchor: Tensor, g: Tensor, seen: Tensor, tau: Tensor) -> Tensor:
        """Return one step to the minimum of the data term + ‖x − anchor‖²/(2τ) that never leads away from it.

        pkl: the surrogate of expectation maximisation, whose minimum is the positive root of
        z² − z·(anchor − τ·Aᵀ1) − τ·x·(Aᵀ1 − g) (De Pierro, IEEE Trans. Med. Imaging 14, 132, 1995). The others: a
        parabola of the curvature's bound.
        """
        if self.term is Term.pkl:
            half = (anchor - tau * seen) / 2
            return half + (half.square() + tau * x * (seen - g).clamp(min=0)).sqrt()
        bound = self._curvature() * seen.flatten(1).amax(1).reshape(-1, *[1] * (x.ndim - 1)).clamp(min=1)
        return ((anchor + tau * (bound * x - g)) / (1 + tau * bound)).clamp(min=0)

    def _curvature(self) -> float:
        """Return the largest second derivative of a pixel's distance by μ."""
        if self.term is Term.kl:
            return 1 / max(self.measured.read_variance, 1.0)
        if self.term is Term.l2:
            return 1.0
        y = self.measured.y[self.measured.valid]
        brightest = float(anscombe(y).max()) if y.numel() else 0.0
        return brightest / (2 * (self.measured.background_e + 3 / 8) ** 1.5)


def seed_step(g: Tensor, t: float) -> Tensor:
    """Return λ of `Rule.seed` for every image, [b 1 …]; `g` is the gradient, `t` the timestep of a thousand."""
    norm = g.flatten(1).norm(dim=1).reshape(-1, *[1] * (g.ndim - 1))
    return SEED_BASE / (norm + SEED_GUARD) * min((SEED_STEPS - t) / (SEED_STEPS - SEED_THRESHOLD), 1.0)
