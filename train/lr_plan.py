"""The learning rate of a player: warm-up × curve × what a plateau has made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .config import Least, LrShape, OptimiserConfig, PlateauConfig, Warmup

ONECYCLE_RISE, ONECYCLE_START, ONECYCLE_END = 0.3, 1 / 25, 1 / 25e4
"""Share of the moves on the way up, factors at both ends (Smith and Topin, arXiv 1708.07120; torch's numbers)."""


def lr_factor(config: OptimiserConfig, move: int, moves: int) -> float:
    """Return the factor on `lr` for optimiser step `move` (0 is the first) of `moves`, without a plateau.

    Warm-up with t = (move + 1) / warmup_steps: linear t, cosine ½·(1 − cos πt), at least `warmup_floor`. After it,
    with p from 0 to 1 over the rest and e = lr_end / lr: linear 1 − (1 − e)·p, cosine e + (1 − e)·½·(1 + cos πp)
    (Loshchilov and Hutter, arXiv 1608.03983, eq. 5); onecycle: see below.
    """
    if move < config.warmup_steps:
        t = (move + 1) / config.warmup_steps
        return max(config.warmup_floor, _rise(t) if config.warmup is Warmup.cosine else t)
    p = min(1.0, (move - config.warmup_steps) / max(1, moves - config.warmup_steps))
    end = config.lr_end / config.lr if config.lr else 0.0
    if config.lr_schedule is LrShape.linear:
        return 1 - (1 - end) * p
    if config.lr_schedule is LrShape.cosine:
        return end + (1 - end) * _rise(1 - p)
    if config.lr_schedule is LrShape.onecycle:
        return _one_cycle(move - config.warmup_steps, max(2, moves - config.warmup_steps))
    return 1.0


def _one_cycle(move: int, moves: int) -> float:
    """Return torch's ``OneCycleLR`` of so many moves: up until move 0.3·n − 1, then down until the last."""
    top, last = ONECYCLE_RISE * moves - 1, moves - 1
    if move < top:
        return ONECYCLE_START + (1 - ONECYCLE_START) * _rise(move / top)
    return ONECYCLE_END + (1 - ONECYCLE_END) * _rise(1 - min(1.0, (move - top) / (last - top)))


class Plateau:
    """Lowers a factor where a number no longer gets better, as torch's ``ReduceLROnPlateau`` in relative mode."""

    def __init__(self, config: PlateauConfig, lr: float):
        self.config, self.lr = config, lr
        self.factor, self.best, self.waited, self.cooling = 1.0, math.inf, 0, 0

    def look(self, value: float) -> bool:
        """Take in the number of one validation; say whether the factor was lowered."""
        config = self.config
        # The same number upside down where more is better, so that less always is.
        value = value if config.better is Least.less else -value
        bar = self.best - abs(self.best) * config.threshold if math.isfinite(self.best) else self.best
        self.waited = 0 if value < bar else self.waited + 1
        self.best = min(self.best, value) if self.waited == 0 else self.best
        if self.cooling:
            self.cooling, self.waited = self.cooling - 1, 0
        if self.waited <= config.patience:
            return False
        self.waited, self.cooling = 0, config.cooldown
        before, least = self.factor, config.least / self.lr if self.lr else 0.0
        self.factor = min(before, max(before * config.factor, least))
        return self.factor < before

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on exactly."""
        return {key: getattr(self, key) for key in ("factor", "best", "waited", "cooling")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state made by `state_dict`."""
        for key, value in state.items():
            setattr(self, key, value)


def _rise(t: float) -> float:
    return 0.5 * (1 - math.cos(math.pi * t))
