"""Schedules that depend on the size of the picture, or on the level of a hierarchy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..errors import ConfigError
from . import curves
from .betas import BaseScheduler, Curve


@dataclass(eq=False)
class ResolutionAwareScheduler(Curve):
    """The cosine's β over a factor that grows with the picture, as the original of this schedule does.

    Published work goes the other way, a larger picture needs more noise: `ShiftedCosineScheduler`.
    """

    base_resolution: int = 256
    current_resolution: int = 256
    resolution_scaling: str = "sqrt"
    """The factor, from the ratio r of both: linear (r), sqrt (√r) or log (1 + log2(r)/8)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base_resolution < 1 or self.current_resolution < 1:
            raise ConfigError(
                f"resolutions must be 1 px or more, got {self.base_resolution} and {self.current_resolution}"
            )
        if self.resolution_scaling not in ("linear", "sqrt", "log"):
            raise ConfigError(
                f"resolution_scaling must be linear, sqrt or log, got {self.resolution_scaling!r}"
            )
        if self._factor() <= 0:
            raise ConfigError(
                f"resolution_scaling log needs a picture above 1/256 of {self.base_resolution} px, "
                f"got {self.current_resolution}"
            )

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        faded = curves.cosine(self.num_timesteps) / self._factor()
        return faded.clamp(curves.BETA_LEAST, curves.COSINE_BETA_MAX)

    def _factor(self) -> float:
        ratio = self.current_resolution / self.base_resolution
        if self.resolution_scaling == "log":
            return 1 + math.log2(ratio) / 8
        return ratio if self.resolution_scaling == "linear" else ratio**0.5


@dataclass(eq=False)
class ShiftedCosineScheduler(Curve):
    """See `curves.shifted_cosine`."""

    image_size: int = 256
    base_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size < 1 or self.base_size < 1:
            raise ConfigError(f"sizes must be 1 px or more, got {self.image_size} and {self.base_size}")

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return curves.shifted_cosine(self.num_timesteps, image_size=self.image_size, base_size=self.base_size)


@dataclass(eq=False)
class Level(BaseScheduler):
    """Base of the schedules of one level of a hierarchy, coarse (0) to fine."""

    num_timesteps: int = 1000
    """Timesteps of the training."""
    level: int = 0
    levels: int = 4

    def __post_init__(self) -> None:
        super().__init__(self.num_timesteps)
        if not 0 <= self.level < self.levels:
            raise ConfigError(f"level must lie in 0 … levels − 1, got {self.level} of {self.levels}")

    @property
    def share(self) -> float:
        """Return (level + 1)/levels."""
        return (self.level + 1) / self.levels

    def cosine(self) -> Tensor:
        """Return β of the cosine with the offset 0.008·(level + 1)/levels."""
        offset = curves.COSINE_OFFSET * self.share
        betas = curves.cosine(self.num_timesteps, s=offset, max_beta=curves.BETA_MOST)
        return betas.clamp(min=curves.BETA_LEAST)


@dataclass(eq=False)
class HierarchicalCosineScheduler(Level):
    """See `Level.cosine`."""

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return self.cosine()


@dataclass(eq=False)
class HierarchicalLinearScheduler(Level):
    """β from 1e-4·(level + 1) to 0.02·(level + 1)/levels."""

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        start = min(curves.BETA_START * (self.level + 1), curves.BETA_MOST)
        return curves.linear(self.num_timesteps, start=start, end=curves.BETA_END * self.share)


@dataclass(eq=False)
class FrequencyAdaptiveScheduler(Level):
    """The hierarchical cosine; the finer half of the levels has β times 1.5 − level/(2·levels), 0.9999 at most."""

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        betas = self.cosine()
        if self.level < self.levels // 2:
            return betas
        return (betas * (1.5 - 0.5 * self.level / self.levels)).clamp(max=curves.BETA_MOST)
