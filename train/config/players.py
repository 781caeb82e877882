"""Who plays: the generator, its discriminators, the losses between them, and how each is optimised."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hypir_core.config import strict
from hypir_core.errors import ConfigError

from ..ramps import Ramp
from .checks import at_least, raise_all


class Optimiser(str, Enum):
    """Which rule moves the weights."""

    adamw = "adamw"
    adam = "adam"


class LrShape(str, Enum):
    """How the learning rate goes after the warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """Moving average of a player's weights; see `train.ema.Ema` for the formula."""

    __pydantic_config__ = strict

    decay: float = 0.999
    warmup: bool = False
    """Start with a smaller decay, so that the first weights are soon forgotten."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ConfigError(f"decay must lie in [0, 1), got {self.decay}")


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How a player moves its weights."""

    __pydantic_config__ = strict

    kind: Optimiser = Optimiser.adamw
    lr: float = 1e-5
    lr_schedule: LrShape = LrShape.constant
    lr_end: float = 0.0
    """Learning rate at the last step of linear and cosine."""
    warmup_steps: int = 0
    """The player's own optimiser steps over which the learning rate rises linearly to `lr`."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    """Acts on tensors of two or more axes only: not on biases, norms and PReLU slopes."""
    clip_norm: float = 1.0
    """Largest norm of the whole gradient; 0 leaves it as it is."""
    every: int = 1
    """The player moves at every n-th step of the loop."""

    def __post_init__(self) -> None:
        raise_all(
            [
                *at_least(self, 0, "lr", "lr_end", "warmup_steps", "weight_decay", "clip_norm"),
                *at_least(self, 1, "every"),
                *(["betas must lie in [0, 1)"] if not all(0 <= beta < 1 for beta in self.betas) else []),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """What is trained to restore."""

    __pydantic_config__ = strict

    name: str
    """A name in `train.generators.GENERATORS`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Sizes of the architecture, for instance features, blocks and scale."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    ema: EmaConfig | None = field(default_factory=EmaConfig)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """One discriminator that the generator plays against."""

    __pydantic_config__ = strict

    name: str
    """A name in `train.discriminators.DISCRIMINATORS`."""
    options: dict[str, Any] = field(default_factory=dict)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loss: str = "hinge"
    """A name in `train.discriminators.ADVERSARIAL`."""
    weight: float = 0.5
    """Weight of the adversarial term in the generator's loss."""
    ramp: Ramp = field(default_factory=Ramp)
    """When that term comes in; the discriminator itself starts to learn at `ramp.start`."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """One term of the generator's loss."""

    __pydantic_config__ = strict

    weight: float = 1.0
    ramp: Ramp = field(default_factory=Ramp)
    options: dict[str, float] = field(default_factory=dict)
    """Keyword options of the loss, for instance eps for charbonnier."""
