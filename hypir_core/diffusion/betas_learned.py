"""Schedules that a training changes: by the slope of its loss, or by gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from . import curves
from .betas import BaseScheduler, Curve

LOOKS_BACK = 10
"""How many of the last losses tell the slope."""
STEADY = -1e-3
"""A slope from here to 0 changes nothing."""


def adapted(betas: Tensor, losses: Sequence[float], *, rate: float) -> Tensor:
    """Return β after one look at the losses: less noise where they rise, more where they fall.

    The slope is that of the straight line through the last ten losses. Above 0: β·(1 − rate); below −0.001:
    β·(1 + rate). What comes out lies in 1e-4 … 0.02.
    """
    last = torch.tensor(losses[-LOOKS_BACK:], dtype=torch.float64)
    places = torch.arange(len(last), dtype=torch.float64)
    places = places - places.mean()
    slope = float((places * last).sum() / places.square().sum()) if len(last) > 1 else 0.0
    factor = 1 - rate if slope > 0 else 1 + rate if slope < STEADY else 1.0
    return (betas * factor).clamp(curves.BETA_START, curves.BETA_END)


@dataclass(eq=False)
class AdaptiveScheduler(Curve):
    """The cosine until `update` is called with losses."""

    adaptation_rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.adaptation_rate < 1:
            raise ConfigError(f"adaptation_rate must lie in 0 … 1, got {self.adaptation_rate}")
        self._betas = curves.cosine(self.num_timesteps)

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return self._betas.clone()

    def update(self, losses: Sequence[float]) -> None:
        """Change β by the slope of `losses`, oldest first; see `adapted`."""
        self._betas = adapted(self._betas, losses, rate=self.adaptation_rate)


class LearnedScheduler(BaseScheduler):
    """β from a small network over the place of a timestep, which starts as the cosine and ends in noise as it does.

    The network gives log(β/(1 − β)), so β lies in (0, 1) whatever it learns. It starts from a seed of its
    own: the curve is the same every time.
    """

    def __init__(self, num_timesteps: int = 1000, *, hidden: int = 64):
        super().__init__(num_timesteps)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.Linear(3, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
            ).double()
        self._fit()

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`; without gradients."""
        return self.betas().detach()

    def betas(self) -> Tensor:
        """Return β [num_timesteps] with gradients to the network."""
        steps = torch.arange(self.num_timesteps, dtype=torch.float64)
        return torch.sigmoid(self.network(self._known(steps))[:, 0])

    def _known(self, timesteps: Tensor) -> Tensor:
        """Return what the network sees of a timestep [n]: its place, and the logarithms from both ends, [n 3]."""
        u = timesteps / self.num_timesteps
        return torch.stack([u, (u + 0.01).log(), (1.01 - u).log()], dim=1)

    def _fit(self) -> None:
        """Choose the last layer by least squares; the layers before it keep their random start."""
        steps = torch.arange(self.num_timesteps, dtype=torch.float64)
        betas = curves.cosine(self.num_timesteps).clamp(curves.BETA_LEAST, curves.COSINE_BETA_MAX)
        last: Any = self.network[-1]
        with torch.no_grad():
            hidden = self.network[:-1](self._known(steps))
            hidden = torch.cat([hidden, torch.ones_like(hidden[:, :1])], dim=1)
            penalty = hidden.T @ hidden + 1e-6 * torch.eye(hidden.shape[1], dtype=torch.float64)
            found = torch.linalg.solve(penalty, hidden.T @ torch.logit(betas))
            last.weight.copy_(found[None, :-1])
            last.bias.copy_(found[-1:])
