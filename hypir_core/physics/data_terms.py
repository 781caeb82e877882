"""How badly an estimate explains a measurement: values and gradients, in electrons.

The expected electrons are μ = A x + B, with the point spread's A and a background B; the measurement y is Poisson(μ)
plus reading noise of variance σ². Pixels where y is NaN or infinite (masked, saturated) say nothing.

Shapes: x and y [b c *spatial]; values [b], one for each image, so that images of a batch do not see each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from .choices import Term
from .operator import PsfOperator

FLOOR = 1e-6
"""Added to rates before anything is divided by them, in electrons."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """A measurement in electrons, and how it came about."""

    y: Tensor
    """[b c *spatial]; NaN and infinity mark pixels that say nothing. Reading noise may take it below 0."""
    operator: PsfOperator
    """A."""
    background_e: float = 0.0
    """B, expected electrons per pixel that do not come from the picture."""
    read_variance: float = 0.0
    """σ², in electrons²."""

    def __post_init__(self) -> None:
        if self.background_e < 0 or self.read_variance < 0:
            raise ConfigError(
                "background_e and read_variance must be 0 or more, "
                f"got {self.background_e:g} and {self.read_variance:g}"
            )

    @property
    def valid(self) -> Tensor:
        """Return where y says something, a mask like y."""
        return self.y.isfinite()

    def expected(self, x: Tensor) -> Tensor:
        """Return μ = A x + B of one estimate for every image, or of several for the only one."""
        wanted = self.estimate_shape
        if x.shape[1:] != wanted[1:] or len(self.y) not in {1, len(x)}:
            raise ShapeError(
                f"the estimate must be of the shape {list(wanted)}, as y says, got {list(x.shape)}"
            )
        return self.operator.A(x) + self.background_e

    @property
    def estimate_shape(self) -> torch.Size:
        """Shape of the light that it measures: that of y, or larger where the operator shrinks."""
        shrink = self.operator.shrink
        return torch.Size([*self.y.shape[:2], *(size * shrink for size in self.y.shape[2:])])

    def sensitivity(self, like: Tensor) -> Tensor:
        """Return Aᵀ1 over the valid pixels: how much of a pixel's light is seen."""
        return self.operator.At(self.valid.expand(len(like), *self.y.shape[1:]).to(like))


def value(term: Term, x: Tensor, measured: Measurement) -> Tensor:
    """Return the distance of every image, [b]; `x` in electrons, not negative."""
    mu = measured.expected(x)
    y = _filled(measured, mu)
    parts = _TERMS[Term(term)].value(mu, y, measured.read_variance)
    return torch.where(measured.valid, parts, torch.zeros_like(parts)).flatten(1).sum(1)


def gradient(term: Term, x: Tensor, measured: Measurement) -> Tensor:
    """Return the gradient of `value` by x: Aᵀ of the slope at every pixel, like `x`."""
    mu = measured.expected(x)
    y = _filled(measured, mu)
    slope = _TERMS[Term(term)].slope(mu, y, measured.read_variance)
    return measured.operator.At(torch.where(measured.valid, slope, torch.zeros_like(slope)))


def chi_squared(x: Tensor, measured: Measurement) -> Tensor:
    """Return the mean of (y − μ)²/(μ + σ²) over the valid pixels of every image, [b]: 1 where the noise explains all.

    Above 1: the estimate misses something. Below 1: it repeats the noise. NaN where no pixel is valid.
    """
    mu = measured.expected(x)
    y = _filled(measured, mu)
    parts = (y - mu).square() / (mu.clamp(min=0) + measured.read_variance + FLOOR)
    valid = measured.valid.to(parts)
    return (parts * valid).flatten(1).sum(1) / valid.flatten(1).sum(1)


def anscombe(electrons: Tensor) -> Tensor:
    """Return f(n) = 2·√(n + ⅜), n below 0 as 0 (Anscombe, Biometrika 35, 246, 1948)."""
    return 2 * (electrons.clamp(min=0) + 3 / 8).sqrt()


@dataclass(frozen=True, kw_only=True)
class _Formula:
    value: Callable[[Tensor, Tensor, float], Tensor]
    slope: Callable[[Tensor, Tensor, float], Tensor]


def _pkl(mu: Tensor, y: Tensor, variance: float) -> Tensor:
    rate = mu.clamp(min=0) + variance + FLOOR
    return rate - (y + variance) * rate.log()


def _pkl_slope(mu: Tensor, y: Tensor, variance: float) -> Tensor:
    return 1 - (y + variance) / (mu.clamp(min=0) + variance + FLOOR)


_TERMS = {
    Term.pkl: _Formula(value=_pkl, slope=_pkl_slope),
    Term.kl: _Formula(
        value=lambda mu, y, variance: 0.5 * (mu - y).square() / max(variance, 1.0),
        slope=lambda mu, y, variance: (mu - y) / max(variance, 1.0),
    ),
    Term.anscombe: _Formula(
        value=lambda mu, y, _: 0.5 * (anscombe(mu) - anscombe(y)).square(),
        slope=lambda mu, y, _: (anscombe(mu) - anscombe(y)) / (mu.clamp(min=0) + 3 / 8).sqrt(),
    ),
    Term.l2: _Formula(
        value=lambda mu, y, _: 0.5 * (mu - y).square(),
        slope=lambda mu, y, _: mu - y,
    ),
}


def _filled(measured: Measurement, mu: Tensor) -> Tensor:
    """Return y in the type of `mu`, what says nothing replaced by `mu` itself."""
    return torch.where(measured.valid, measured.y.to(mu), mu.detach())
