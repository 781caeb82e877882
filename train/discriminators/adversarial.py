"""How logits become losses. Every class is its own set of options; E is the mean over batch and positions.

Levels are summed. A discriminator's loss is for one batch of images made and one of real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from hypir_core.config import strict
from hypir_core.errors import ConfigError

from .judgement import Logits


@dataclass(frozen=True, kw_only=True)
class Hinge:
    """G: −E D(x̂). D: E max(0, 1 − D(x)) + E max(0, 1 + D(x̂)) (Lim and Ye, arXiv 1705.02894)."""

    __pydantic_config__ = strict
    needs_real: ClassVar[bool] = False

    def for_generator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the generator's loss; `real` is not read."""
        return _over_levels(lambda d: -d.mean(), fake)

    def for_discriminator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the discriminator's loss."""
        return _over_levels(lambda d: F.relu(1 + d).mean(), fake) + _over_levels(
            lambda d: F.relu(1 - d).mean(), real
        )


@dataclass(frozen=True, kw_only=True)
class Bce:
    """Binary cross-entropy with one-sided label smoothing (Goodfellow et al. 2014; Salimans et al. 2016).

    With H(d, y) = −y·log σ(d) − (1 − y)·log(1 − σ(d)): G is E H(D(x̂), generator_label), D is
    E H(D(x), real_label) + E H(D(x̂), 0).
    """

    __pydantic_config__ = strict
    needs_real: ClassVar[bool] = False

    real_label: float = 0.8
    """What the discriminator should say of real images; below 1 it stays unsure."""
    generator_label: float = 0.8
    """What the generator wants to hear. At 0.8 its gradient turns round beyond logits of ln 4; 1 never does."""
    halve: bool = False
    """Halve the discriminator's loss, as OpenSR does."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} must lie in (0, 1], got {getattr(self, name)}"
            for name in ("real_label", "generator_label")
            if not 0 < getattr(self, name) <= 1
        ]
        if problems:
            raise ConfigError(problems)

    def for_generator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the generator's loss; `real` is not read."""
        return _over_levels(lambda d: _cross_entropy(d, self.generator_label), fake)

    def for_discriminator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the discriminator's loss."""
        both = _over_levels(lambda d: _cross_entropy(d, 0), fake) + _over_levels(
            lambda d: _cross_entropy(d, self.real_label), real
        )
        return both / 2 if self.halve else both


@dataclass(frozen=True, kw_only=True)
class LeastSquares:
    """G: ½·E (D(x̂) − 1)². D: ½·E (D(x) − 1)² + ½·E D(x̂)² (Mao et al., arXiv 1611.04076, eq. 9)."""

    __pydantic_config__ = strict
    needs_real: ClassVar[bool] = False

    def for_generator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the generator's loss; `real` is not read."""
        return _over_levels(lambda d: 0.5 * (d - 1).square().mean(), fake)

    def for_discriminator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the discriminator's loss."""
        return _over_levels(lambda d: 0.5 * d.square().mean(), fake) + _over_levels(
            lambda d: 0.5 * (d - 1).square().mean(), real
        )


@dataclass(frozen=True, kw_only=True)
class Relativistic:
    """Relativistic average: which is more real, on average? (Jolicoeur-Martineau, arXiv 1807.00734, eq. 8 f.).

    D: E H(D(x) − E D(x̂), real_label) + E H(D(x̂) − E D(x), 0), with H as in `Bce`; G swaps the two, with label 1. The
    means are those of each process's own batch.
    """

    __pydantic_config__ = strict
    needs_real: ClassVar[bool] = True

    real_label: float = 1.0
    """What the discriminator should say of real images; below 1 it stays unsure."""
    halve: bool = False
    """Halve the generator's loss, as OpenSR does."""

    def __post_init__(self) -> None:
        if not 0 < self.real_label <= 1:
            raise ConfigError(f"real_label must lie in (0, 1], got {self.real_label}")

    def for_generator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the generator's loss."""
        both = _relative(real, fake, label=1.0)
        return both / 2 if self.halve else both

    def for_discriminator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the discriminator's loss."""
        return _relative(fake, real, label=self.real_label)


@dataclass(frozen=True, kw_only=True)
class Wasserstein:
    """G: −E D(x̂). D: E D(x̂) − E D(x) (Arjovsky et al., arXiv 1701.07875, eq. 3); the logits have no bound.

    Nothing here keeps the discriminator Lipschitz: give it `r1`, or spectral norm.
    """

    __pydantic_config__ = strict
    needs_real: ClassVar[bool] = False

    def for_generator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the generator's loss; `real` is not read."""
        return _over_levels(lambda d: -d.mean(), fake)

    def for_discriminator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the discriminator's loss."""
        return _over_levels(lambda f, r: f.mean() - r.mean(), fake, real)


def _relative(lower: Logits, upper: Logits, *, label: float) -> Tensor:
    return _over_levels(
        lambda low, up: _cross_entropy(up - low.mean(), label) + _cross_entropy(low - up.mean(), 0),
        lower,
        upper,
    )


def _over_levels(loss: Callable[..., Tensor], *logits: Logits) -> Tensor:
    return torch.stack([loss(*level) for level in zip(*logits, strict=True)]).sum()


def _cross_entropy(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
