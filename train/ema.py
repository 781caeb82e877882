"""Exponential moving average of what a player trains."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from .run.sharding import like


class Ema:
    """A shadow copy s of the weights w, updated after every optimiser step n = 0, 1, ….

    Formula: s ← s + (1 − d_n)·(w − s), with s = w at the start, where d_n = `decay`, or with `warmup`
    d_n = min(decay, (1 + n) / (10 + n)), so that the first weights are soon forgotten. There is no bias
    correction: s starts at the weights, not at zero. Whole-number tensors and those named in `copied` are copied.

    With `first` n is counted from another number than 0 (OpenSR: 1), and the first `start` updates only copy w.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        *,
        decay: float,
        warmup: bool,
        first: int = 0,
        start: int = 0,
        copied: Collection[str] = (),
    ):
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self.first, self.start, self.copied = first, start, frozenset(copied)
        self.shadow = {name: tensor.detach().clone() for name, tensor in weights.items()}

    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Move the shadow towards `weights`, which have the names and shapes it was made with."""
        shadow, target = [], []
        for name, value in self.shadow.items():
            if value.is_floating_point() and name not in self.copied and self.updates >= self.start:
                shadow.append(value)
                target.append(weights[name].detach())
            else:
                value.copy_(weights[name])
        if shadow:
            torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]  # one kernel for all tensors
                shadow, target, 1.0 - self.decay_now()
            )
        self.updates += 1

    def decay_now(self) -> float:
        """Return d_n for the coming update."""
        n = max(self.updates - self.start, 0) + self.first
        return min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on exactly."""
        return {"shadow": self.shadow, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state made by `state_dict`, on the device of the present shadow."""
        for name, value in self.shadow.items():
            value.copy_(like(state["shadow"][name], value))
        self.updates = state["updates"]
