"""Who plays: the generator, its discriminators, the losses between them, and how each is optimised."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hypir_core.config import strict
from hypir_core.errors import ConfigError

from ..ramps import Ramp
from .checks import at_least, raise_all


class Optimiser(str, Enum):
    """Which rule moves the weights."""

    adamw = "adamw"
    adam = "adam"
    adamw8bit = "adamw8bit"
    """AdamW whose state takes a quarter of the memory; needs the package bitsandbytes"""
    schedule_free = "schedule_free"
    """AdamW that averages its weights instead of lowering the learning rate; needs the package schedulefree"""
    prodigy = "prodigy"
    """finds the learning rate by itself, `lr` is a factor on it (1); needs the package prodigyopt"""


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
                *(
                    ["lr_schedule must be constant with kind=schedule_free, which needs none"]
                    if self.kind is Optimiser.schedule_free and self.lr_schedule is not LrShape.constant
                    else []
                ),
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

    def __post_init__(self) -> None:
        if self.ema and self.optimiser.kind is Optimiser.schedule_free:
            raise ConfigError("ema must be null with optimiser.kind=schedule_free, which averages by itself")


@dataclass(frozen=True, kw_only=True)
class FeatureMatchingConfig:
    """Pull what the discriminator's layers see of the image towards what they see of the target."""

    __pydantic_config__ = strict

    weight: float = 1.0
    """Weight of the term in the generator's loss."""
    ramp: Ramp = field(default_factory=Ramp)
    """When the term comes in; not before the discriminator's own ramp has begun."""


@dataclass(frozen=True, kw_only=True)
class R1Config:
    """Penalty on the discriminator's gradient at real images; see `train.discriminators.r1`."""

    __pydantic_config__ = strict

    gamma: float = 10.0
    """Strength; more keeps the discriminator flatter around real images."""
    every: int = 16
    """The penalty is computed at every n-th move of the discriminator, and counts n times there."""
    ramp: Ramp = field(default_factory=Ramp)

    def __post_init__(self) -> None:
        raise_all([*at_least(self, 0, "gamma"), *at_least(self, 1, "every")])


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """One discriminator that the generator plays against."""

    __pydantic_config__ = strict

    name: str
    """A name in `train.discriminators.DISCRIMINATORS`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Sizes of the architecture, for instance features."""
    weights: Path | None = None
    """What it starts from: a file that another run wrote, or the published heads for clip_convnext."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loss: str = "hinge"
    """A name in `train.discriminators.ADVERSARIAL`."""
    loss_options: dict[str, Any] = field(default_factory=dict)
    """Fields of that loss, for instance real_label for bce."""
    weight: float = 0.5
    """Weight of the adversarial term in the generator's loss."""
    ramp: Ramp = field(default_factory=Ramp)
    """When that term comes in; the discriminator itself starts to learn at `ramp.start`."""
    feature_matching: FeatureMatchingConfig | None = None
    r1: R1Config | None = None


class LpipsNet(str, Enum):
    """Whose features LPIPS compares."""

    alex = "alex"
    vgg = "vgg"


@dataclass(frozen=True, kw_only=True)
class LpipsConfig:
    """Which LPIPS, as a loss and in validation."""

    __pydantic_config__ = strict

    net: LpipsNet = LpipsNet.vgg
    backbone: Path | None = None
    """torchvision's weight file of that network; without it torchvision's own copy is used, or downloaded."""
    channels: tuple[int, int, int] | None = None
    """Which three of the generator's channels it sees as red, green and blue; must be said for bands."""
    pretrained: bool = True
    """False: a random backbone, for tests without the file. Its distances are not LPIPS."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """One term of the generator's loss."""

    __pydantic_config__ = strict

    weight: float = 1.0
    ramp: Ramp = field(default_factory=Ramp)
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the loss, for instance eps for charbonnier, or those of `LpipsConfig` for lpips."""
