"""Ways to train: a curriculum, losses and noise schedules that belong together, each in one word of the settings.

Progressive growing is Karras et al., arXiv 1710.10196; cascades are Ho et al., arXiv 2106.15282. A strategy only says
what the settings could say as well: what they do say is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

import torch
from torch.nn import functional as F

from hypir_core.components import STRATEGY_REGISTRY, create_scheduler, register_strategy
from hypir_core.diffusion.betas import BaseScheduler
from hypir_core.errors import ConfigError

from .config import LossConfig, Phase, TrainConfig
from .data.batch import Batch
from .data.seeds import below

__all__ = ["Strategy", "strategy_of", "with_strategy"]


class Strategy(Protocol):
    """A way to train."""

    def curriculum(self, config: TrainConfig) -> tuple[Phase, ...]:
        """Return the phases of the data."""
        ...

    def losses(self, config: TrainConfig) -> Mapping[str, LossConfig]:
        """Return the losses that it adds."""
        ...

    def schedules(self, config: TrainConfig) -> tuple[BaseScheduler, ...]:
        """Return the noise schedules that samples take turns with, one for each level; none: the run's own."""
        ...

    def coarsened(self, batch: Batch, draw: torch.Generator) -> Batch:
        """Return the batch as the network learns from it."""
        ...


class LrRule(str, Enum):
    """How the learning rate follows the resolution r, from r0 on."""

    sqrt = "sqrt"
    """√(r0/r)"""
    linear = "linear"
    """r0/r"""
    constant = "constant"
    """1"""


@register_strategy("plain")
@dataclass(frozen=True, kw_only=True)
class Plain:
    """Everything at once."""

    def curriculum(self, config: TrainConfig) -> tuple[Phase, ...]:
        """See `Strategy`."""
        del config
        return ()

    def losses(self, config: TrainConfig) -> Mapping[str, LossConfig]:
        """See `Strategy`."""
        del config
        return {}

    def schedules(self, config: TrainConfig) -> tuple[BaseScheduler, ...]:
        """See `Strategy`."""
        del config
        return ()

    def coarsened(self, batch: Batch, draw: torch.Generator) -> Batch:
        """See `Strategy`."""
        del draw
        return batch


@register_strategy("progressive", aliases=("progressive_growing",))
@dataclass(frozen=True, kw_only=True)
class Progressive(Plain):
    """Small crops first, twice the side in every phase, up to data.crop_px; what a phase adds is faded in.

    data.batch_size is that of the smallest crops, and shrinks with their area.
    """

    smallest_px: int = 64
    """Side of the first crops."""
    first_share: float = 10.0
    """How long the first phase lasts, relative to `later_share`."""
    later_share: float = 5.0
    """By how much every phase lasts longer than the one before."""
    fade: float = 0.1
    """The part of a phase over which its detail is faded in."""
    lr_rule: LrRule = LrRule.sqrt
    consistency: float = 0.1
    """Weight of the loss cross_resolution, which keeps right what coarser phases have learned."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr_rule", LrRule(self.lr_rule))
        problems = []
        if self.smallest_px < 1:
            problems.append(f"strategy.options.smallest_px must be 1 or more, got {self.smallest_px}")
        if not self.first_share > 0 or self.later_share < 0:
            problems.append("strategy.options: first_share must be above 0 and later_share 0 or more")
        if not 0 <= self.fade <= 1:
            problems.append(f"strategy.options.fade must lie in 0 … 1, got {self.fade:g}")
        if problems:
            raise ConfigError(problems)

    def curriculum(self, config: TrainConfig) -> tuple[Phase, ...]:
        """See `Strategy`."""
        sides = resolutions(self.smallest_px, _side(config))
        shares = [self.first_share + self.later_share * number for number in range(len(sides))]
        phases, before = [], 0.0
        for number, (side, share) in enumerate(zip(sides, shares, strict=True)):
            start = round(config.max_steps * before / sum(shares))
            steps = round(config.max_steps * (before + share) / sum(shares)) - start
            before += share
            phases.append(
                Phase(
                    start=start,
                    crop_px=side,
                    batch_size=batch_at(config.data.batch_size, sides[0], side),
                    lr_factor=lr_at(self.lr_rule, sides[0], side),
                    fade_steps=round(self.fade * steps) if number else 0,
                )
            )
        return tuple(phases)

    def losses(self, config: TrainConfig) -> Mapping[str, LossConfig]:
        """See `Strategy`."""
        del config
        return {"cross_resolution": LossConfig(weight=self.consistency)} if self.consistency else {}


@register_strategy("hierarchical", aliases=("hierarchical_training",))
@dataclass(frozen=True, kw_only=True)
class Hierarchical(Plain):
    """Every sample at a level: its noise is of that level's schedule; several sizes and bands are compared."""

    levels: int = 4
    schedule: str = "hierarchical_cosine"
    """A schedule that knows `level` and `levels`: hierarchical_cosine, hierarchical_linear, frequency_adaptive."""
    pyramid: float = 0.05
    """Weight of the loss pyramid."""
    frequency_bands: float = 0.1
    """Weight of the loss frequency_bands."""
    features: float = 0.1
    """Weight of the loss features, through the encoder of base_model; without one there are no features that mean
    anything, and the loss is left out."""

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ConfigError(f"strategy.options.levels must be 1 or more, got {self.levels}")

    def losses(self, config: TrainConfig) -> Mapping[str, LossConfig]:
        """See `Strategy`."""
        weights = {"pyramid": self.pyramid, "frequency_bands": self.frequency_bands}
        found = {name: LossConfig(weight=weight) for name, weight in weights.items() if weight}
        if self.features and config.base_model is not None:
            options = {"weights": str(config.base_model)}
            found["features"] = LossConfig(weight=self.features, options=options)
        return found

    def schedules(self, config: TrainConfig) -> tuple[BaseScheduler, ...]:
        """See `Strategy`."""
        total = create_scheduler(config.denoising.schedule, config.denoising.schedule_options).num_timesteps
        return tuple(
            create_scheduler(self.schedule, num_timesteps=total, level=level, levels=self.levels)
            for level in range(self.levels)
        )


@register_strategy("cascaded", aliases=("cascade",))
@dataclass(frozen=True, kw_only=True)
class Cascaded(Plain):
    """For restoring from coarse to fine: every batch at one of several strides, so that one network does all of them."""

    strides: tuple[int, ...] = (1, 2, 4)
    """Sides of the cells of pixels that become one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))
        if not self.strides or min(self.strides) < 1:
            raise ConfigError(f"strategy.options.strides must be numbers of 1 or more, got {self.strides}")

    def coarsened(self, batch: Batch, draw: torch.Generator) -> Batch:
        """Return the means of cells in file values; counted light adds up: more electrons make one unit."""
        stride = self.strides[below(draw, len(self.strides))]
        return coarse(batch, stride)


def coarse(batch: Batch, stride: int) -> Batch:
    """Return a batch at a stride; what does not fill a cell at the far edges is left out."""
    if stride == 1:
        return batch
    if batch.light is None:
        raise ConfigError("strategy: cascaded wants to know the light of its pairs; set data.physics")
    hq, lq = (F.avg_pool2d(x, stride) for x in (batch.hq, batch.lq))
    valid = None if batch.valid is None else F.avg_pool2d(batch.valid.float(), stride) == 1
    return replace(batch, hq=hq, lq=lq, valid=valid, light=batch.light * stride**2)


def faded(batch: Batch, alpha: float) -> Batch:
    """Return α·x + (1 − α)·up(down(x)) of input and target alike: means of 2×2 cells, repeated."""
    if alpha == 1:
        return batch
    hq, lq = (alpha * x + (1 - alpha) * _coarse_and_back(x) for x in (batch.hq, batch.lq))
    return replace(batch, hq=hq, lq=lq)


def strategy_of(config: TrainConfig) -> Strategy:
    """Make the strategy that the settings name.

    Raises:
        UnknownNameError: no such strategy.
        ConfigError: an option that it does not take.
    """
    return STRATEGY_REGISTRY.create(config.strategy.name, config.strategy.options)


def with_strategy(config: TrainConfig) -> TrainConfig:
    """Return the settings with what the strategy adds: phases where there are none, losses that are not stated."""
    strategy = strategy_of(config)
    phases = config.curriculum or strategy.curriculum(config)
    losses = {**strategy.losses(config), **config.losses}
    if phases == config.curriculum and losses == config.losses:
        return config
    return replace(config, curriculum=phases, losses=losses)


def resolutions(smallest_px: int, largest_px: int) -> tuple[int, ...]:
    """Return smallest·2^k below the largest, and the largest."""
    sides, side = [], smallest_px
    while side < largest_px:
        sides.append(side)
        side *= 2
    return (*sides, largest_px)


def batch_at(base: int, first_px: int, side_px: int) -> int:
    """Return how many crops fill the memory of `base` crops of the first size: max(1, ⌊base·(r0/r)² + ½⌋)."""
    return max(1, math.floor(base * (first_px / side_px) ** 2 + 0.5))


def lr_at(rule: LrRule, first_px: int, side_px: int) -> float:
    """Return the factor of the learning rate."""
    share = first_px / side_px
    return {LrRule.sqrt: math.sqrt(share), LrRule.linear: share, LrRule.constant: 1.0}[rule]


def _side(config: TrainConfig) -> int:
    if not isinstance(config.data.crop_px, int):
        raise ConfigError("strategy: progressive wants one number as data.crop_px")
    return config.data.crop_px


def _coarse_and_back(x: torch.Tensor) -> torch.Tensor:
    sides = x.shape[2:]
    small = F.interpolate(x, size=[-(-side // 2) for side in sides], mode="area")
    return F.interpolate(small, size=list(sides), mode="nearest")
