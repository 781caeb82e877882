"""Ramps: how the weight of a loss grows over the steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from hypir_core.config import strict
from hypir_core.errors import ConfigError


class RampShape(str, Enum):
    """How a ramp rises from 0 to 1."""

    constant = "constant"
    """0 before `start`, 1 from there on"""
    linear = "linear"
    cosine = "cosine"


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """When and how a weight comes in; the default is full weight from the first step."""

    __pydantic_config__ = strict

    shape: RampShape = RampShape.constant
    start: int = 0
    """First step at which the weight is no longer 0 (constant) or starts to rise (linear, cosine)."""
    length: int = 0
    """Steps from 0 to full weight; 0 rises at once. `constant` has none."""
    ahead: float = 0.0
    """So much of a step further along. OpenSR counts every move of either side: it is half a step ahead."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be 0 or more, got {getattr(self, name)}"
            for name in ("start", "length")
            if getattr(self, name) < 0
        ]
        if not 0 <= self.ahead < 1:
            problems.append(f"ahead must lie in [0, 1), got {self.ahead}")
        if self.shape is RampShape.constant and self.length:
            problems.append(f"a constant ramp has no length, got {self.length}; use shape: linear or cosine")
        if problems:
            raise ConfigError(problems)


def ramp_factor(ramp: Ramp, step: int) -> float:
    """Return the factor in [0, 1] at `step` (0 is the first).

    With p = (step + ahead − start) / length, clamped to [0, 1]: linear is p, cosine ½·(1 − cos πp).
    """
    if step < ramp.start:
        return 0.0
    p = 1.0 if ramp.length == 0 else min(1.0, (step + ramp.ahead - ramp.start) / ramp.length)
    return 0.5 * (1.0 - math.cos(math.pi * p)) if ramp.shape is RampShape.cosine else p
