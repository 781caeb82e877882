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
from .losses import Domain


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
    onecycle = "onecycle"
    """up from 1/25 in the first 30 %, then down to 1/250000, both as half a cosine"""


class Warmup(str, Enum):
    """How the learning rate rises at the start."""

    linear = "linear"
    cosine = "cosine"


class Least(str, Enum):
    """What is an improvement."""

    less = "less"
    more = "more"


@dataclass(frozen=True, kw_only=True)
class PlateauConfig:
    """Lower the learning rate where a number no longer gets better; looked at with every validation."""

    __pydantic_config__ = strict

    metric: str = "val/l1"
    """What a validation measured (``val/<metric>``: its mean over the recipes; or ``val/<recipe>/<metric>``), or a
    number of the training (``loss/<name>``), as of the last line of scalars."""
    better: Least = Least.less
    """Which way is better."""
    factor: float = 0.5
    patience: int = 10
    """So many validations without improvement are borne."""
    cooldown: int = 0
    """So many validations after a lowering are not looked at."""
    threshold: float = 1e-3
    """An improvement by less than this share is none."""
    least: float = 1e-7
    """The learning rate is not lowered below this."""

    def __post_init__(self) -> None:
        raise_all(
            [
                *([] if 0 < self.factor < 1 else [f"factor must lie in (0, 1), got {self.factor}"]),
                *at_least(self, 0, "patience", "cooldown", "threshold", "least"),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """Moving average of a player's weights; see `train.ema.Ema` for the formula."""

    __pydantic_config__ = strict

    decay: float = 0.999
    warmup: bool = False
    """Start with a smaller decay, so that the first weights are soon forgotten."""
    first: int = 0
    """The warm-up counts its updates from this number; 1 is OpenSR's."""
    start: int = 0
    """So many updates only copy the weights before the averaging begins."""
    copy_buffers: bool = False
    """Copy running statistics of norms rather than average them, as OpenSR does."""

    def __post_init__(self) -> None:
        raise_all(
            [
                *([] if 0 <= self.decay < 1 else [f"decay must lie in [0, 1), got {self.decay}"]),
                *at_least(self, 0, "first", "start"),
            ]
        )


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
    """The player's own optimiser steps over which the learning rate rises to `lr`."""
    warmup: Warmup = Warmup.linear
    """How it rises."""
    warmup_floor: float = 0.0
    """It starts at no less than this share of `lr`; OpenSR's is 0.05."""
    plateau: PlateauConfig | None = None
    """Lower the learning rate, on top of its curve, where validation no longer gets better."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    """Acts on tensors of two or more axes only: not on biases and norms, and on PReLU slopes if `decay_slopes`."""
    decay_slopes: bool = False
    """Weight decay acts on the slopes of PReLU as well, as in OpenSR."""
    clip_norm: float = 1.0
    """Largest norm of the whole gradient; 0 leaves it as it is."""
    clip_value: float = 0.0
    """Largest absolute value of any number of the gradient, instead of `clip_norm`; 0 leaves it as it is."""
    every: int = 1
    """The player moves at every n-th step of the loop."""

    def __post_init__(self) -> None:
        raise_all(
            [
                *at_least(self, 0, "lr", "lr_end", "warmup_steps", "weight_decay", "clip_norm", "clip_value"),
                *(
                    []
                    if 0 <= self.warmup_floor <= 1
                    else [f"warmup_floor must lie in [0, 1], got {self.warmup_floor}"]
                ),
                *(
                    ["clip_norm must be 0 with clip_value, which is used instead"]
                    if self.clip_value and self.clip_norm
                    else []
                ),
                *(
                    ["plateau must be null with kind=schedule_free, which needs no schedule"]
                    if self.plateau and self.kind is Optimiser.schedule_free
                    else []
                ),
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
    """A name in `train.generators.GENERATORS` or `ARCHITECTURES`, or a Python path ``package.module:name``."""
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


class R1Over(str, Enum):
    """What a map of logits counts with in R1."""

    mean = "mean"
    """its mean; γ means the same for every size of image"""
    sum = "sum"
    """its sum, as OpenSR's"""


@dataclass(frozen=True, kw_only=True)
class R1Config:
    """Penalty on the discriminator's gradient at real images; see `train.discriminators.r1`."""

    __pydantic_config__ = strict

    gamma: float = 10.0
    """Strength; more keeps the discriminator flatter around real images."""
    over: R1Over = R1Over.mean
    """What a map of logits counts with."""
    every: int = 16
    """The penalty is computed at every n-th move of the discriminator, and counts n times there."""
    ramp: Ramp = field(default_factory=Ramp)

    def __post_init__(self) -> None:
        raise_all([*at_least(self, 0, "gamma"), *at_least(self, 1, "every")])


class Judging(str, Enum):
    """In which mode a discriminator judges for the generator."""

    evaluation = "evaluation"
    """nothing of it changes: its norms use what they have collected"""
    training = "training"
    """its norms use, and collect, what they see, as in OpenSR"""


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """One discriminator that the generator plays against."""

    __pydantic_config__ = strict

    name: str
    """A name in `train.discriminators.DISCRIMINATORS`, or a Python path ``package.module:name``."""
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
    domain: Domain = Domain.pm1
    """In which units it sees images: pm1, or as the network gives them (net), in [0,1] (unit) or of the files (file)."""
    judging: Judging = Judging.evaluation
    """In which mode it judges for the generator."""
    ramp: Ramp = field(default_factory=Ramp)
    """When that term comes in; the discriminator itself starts to learn at `ramp.start`."""
    feature_matching: FeatureMatchingConfig | None = None
    r1: R1Config | None = None
