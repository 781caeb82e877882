"""Kernel density steering: particles of one picture are drawn to where most of them agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ConfigError
from ..prediction import wide
from ..samplers.base import Step

SMALLEST = 1e-12
"""Bandwidths below it count as none: the particles of a patch are equal."""

EQUALLY_NEAR = 1e-6
"""Squared distances to the mean that differ by less, in parts of themselves, are equal but for rounding."""


@dataclass(frozen=True, kw_only=True)
class Steering:
    """Move every patch of every particle towards the mean shift of the same patch in all particles.

    Hu et al., "Kernel Density Steering: Inference-Time Scaling via Mode Seeking for Image Restoration",
    arXiv 2507.05604, section 3: m_i = Σ_k G_ik·p_k / Σ_k G_ik − p_i with G_ik = exp(−‖p_i − p_k‖² / 2h²), and
    p_i ← p_i + δ·m_i. Images are particles: one image alone comes back as it is.
    """

    strength: float = 0.3
    """δ, 0 to 1: the part of the way to the mean shift that is gone."""
    begins: float = 0.3
    """0 to 1: the part of the steps that passes before steering begins. With one step it always steers."""
    bandwidth: float | None = None
    """h, in units of the canvas over a whole patch; None takes median distance / √(2·ln(n + 1)) of each patch, the
    median heuristic (Liu and Wang, arXiv 1608.04471, section 5): a fixed h is one-hot where a patch has many numbers."""
    patch: int = 2
    """Side of a patch in cells of the canvas, along every axis; the last ones are cut at the edges."""

    def __post_init__(self) -> None:
        problems = [
            f"steering: {name} must lie in 0 … 1, got {value:g}"
            for name, value in (("strength", self.strength), ("begins", self.begins))
            if not 0 <= value <= 1
        ]
        if self.bandwidth is not None and not (self.bandwidth > 0 and math.isfinite(self.bandwidth)):
            problems.append(f"steering: the bandwidth must be above 0, got {self.bandwidth:g}")
        if self.patch < 1:
            problems.append(f"steering: a patch has 1 cell or more, got {self.patch}")
        if problems:
            raise ConfigError(problems)

    def __call__(self, x0: Tensor, step: Step) -> Tensor:
        """See `X0Edit`; the images [n c *cells] are the particles."""
        passed = step.index / step.of
        if len(x0) == 1 or self.strength == 0 or (step.of > 1 and passed < self.begins):
            return x0
        x0 = wide(x0)
        patches = _Patches(x0, self.patch)
        squared = patches.squared_distances()
        fixed = self.bandwidth
        width = median_bandwidth(squared) if fixed is None else torch.full_like(squared[0, 0], fixed)
        return x0 + self.strength * patches.mean_shift(_kernel(squared, width))


def median_bandwidth(squared: Tensor) -> Tensor:
    """Return h of every patch: the median distance of two particles over √(2·ln(n + 1)).

    Shapes: squared distances [n n patches] → [patches]; 0 where all particles of a patch are equal.
    """
    n = len(squared)
    one, other = torch.triu_indices(n, n, offset=1, device=squared.device)
    return squared[one, other].sqrt().median(dim=0).values / math.sqrt(2 * math.log(n + 1))


def nearest_to_mean(x0: Tensor) -> int:
    """Return which image of [n c *cells] is nearest to the mean of all, by the L2 distance; the first of equals.

    Two are equally near to theirs: rounding must not choose, or tiles and devices would give different pictures.
    """
    x0 = x0.double()
    apart = (x0 - x0.mean(0, keepdim=True)).flatten(1).square().sum(1)
    return int((apart <= apart.min() * (1 + EQUALLY_NEAR)).nonzero()[0])


def _kernel(squared: Tensor, width: Tensor) -> Tensor:
    """Return G [n n patches], each row summing to 1; equal particles weigh alike."""
    scaled = squared / (2 * width.clamp(min=SMALLEST) ** 2)
    return (-scaled).softmax(dim=1)


class _Patches:
    """Particles [n c *cells], seen as patches of `side` cells along every axis.

    Sums over a patch are means over windows times their size: padding the far edges with zeros adds nothing.
    """

    def __init__(self, x0: Tensor, side: int):
        self.x0, self.side = x0, side

    def squared_distances(self) -> Tensor:
        """Return ‖p_i − p_k‖² of every patch: [n n patches]."""
        return torch.stack(
            [torch.stack([self._sum((one - other).square().sum(0)) for other in self.x0]) for one in self.x0]
        )

    def mean_shift(self, kernel: Tensor) -> Tensor:
        """Return Σ_k G_ik·p_k − p_i for a kernel [n n patches]: [n c *cells]."""
        shifted = []
        for one, weights in zip(self.x0, kernel, strict=True):
            goal = torch.zeros_like(one)
            for other, weight in zip(self.x0, weights, strict=True):
                goal += self._spread(weight) * other
            shifted.append(goal - one)
        return torch.stack(shifted)

    @property
    def _counts(self) -> list[int]:
        return [-(-cells // self.side) for cells in self.x0.shape[2:]]

    def _sum(self, cells: Tensor) -> Tensor:
        """Sum a map [*cells] over every patch: [patches]."""
        for axis in range(cells.ndim):
            cells = torch.stack([part.sum(axis) for part in cells.split(self.side, dim=axis)], dim=axis)
        return cells.flatten()

    def _spread(self, values: Tensor) -> Tensor:
        """Give every cell the value of its patch: [patches] → [*cells]."""
        spread = values.unflatten(0, self._counts)
        for axis, cells in enumerate(self.x0.shape[2:]):
            spread = spread.repeat_interleave(self.side, dim=axis).narrow(axis, 0, cells)
        return spread
