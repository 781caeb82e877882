"""Group norms that treat every tile of a picture alike.

A group norm takes its statistics from what it is given: cut into tiles, a picture is normalised tile by tile, and
brightness, contrast and texture drift from one to the next. Here the statistics are estimated once, on a sample of
the picture that goes through the network together, and then used for all tiles. What is left to a tile is a scale
and an offset per channel, which is also one pass over memory less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Statistics of one group norm, for each picture."""

    mean: Tensor
    """[images groups], float32."""
    var: Tensor
    """[images groups], float32, biased."""

    def is_finite(self) -> bool:
        """Say whether all are numbers."""
        return bool(self.mean.isfinite().all() and self.var.isfinite().all())


TINY = 1e-12
"""Keeps the scale of a constant group finite."""

Found = Mapping[nn.Module, Moments]


@dataclass(frozen=True, eq=False)
class SharedNorms:
    """The group norms of one network."""

    net: nn.Module

    @contextmanager
    def gathering(self, shares: Tensor) -> Iterator[dict[nn.Module, Moments]]:
        """Within it, crops of a picture are normalised together; yields the statistics, filled as they run.

        Args:
            shares: [crops images], each column sums to 1: how much a crop counts. Batches must come as
                [crops · images …], one crop of every image after the other.
        """
        found: dict[nn.Module, Moments] = {}

        def gather(norm: nn.GroupNorm, x: Tensor) -> Tensor:
            found[norm] = _moments(x, norm.num_groups, shares)
            return _normalise(norm, x, found[norm])

        with self._replaced(lambda norm: partial(gather, norm)):
            yield found

    @contextmanager
    def using(self, found: Found) -> Iterator[None]:
        """Within it, batches [tiles · images …] are normalised by `found`."""

        def forward(norm: nn.GroupNorm) -> Callable[[Tensor], Tensor] | None:
            return partial(_normalise, norm, moments=found[norm]) if norm in found else None

        with self._replaced(forward):
            yield

    @contextmanager
    def _replaced(
        self, forward: Callable[[nn.GroupNorm], Callable[[Tensor], Tensor] | None]
    ) -> Iterator[None]:
        norms = [module for module in self.net.modules() if isinstance(module, nn.GroupNorm)]
        before = {norm: norm.__dict__.get("forward") for norm in norms}
        try:
            for norm in norms:
                if (new := forward(norm)) is not None:
                    norm.__dict__["forward"] = new
            yield
        finally:
            for norm, old in before.items():
                if old is None:
                    norm.__dict__.pop("forward", None)  # the class's own is back
                else:
                    norm.__dict__["forward"] = old


def _moments(x: Tensor, groups: int, shares: Tensor) -> Moments:
    """Return the moments of [crops · images c …] over crops and positions.

    σ² = Σ wᵢ·(σᵢ² + (μᵢ − μ)²).
    """
    mean, var = (part.unflatten(0, shares.shape) for part in _each_ones_moments(x, groups))
    weights = shares.to(mean)[..., None]
    middle = (weights * mean).sum(0)
    return Moments(mean=middle, var=(weights * (var + (mean - middle).square())).sum(0))


def _each_ones_moments(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of [n c …], each [n groups] in float32."""
    if x.device.type != "cpu":
        # One after the other: a float32 copy of the whole batch would be the largest thing in memory.
        parts = [torch.var_mean(one.float().reshape(groups, -1), dim=-1, correction=0) for one in x]
        var, mean = (torch.stack(part) for part in zip(*parts, strict=True))
        return mean, var
    # The norm's own kernel needs no float32 copies; with weights in float32 it returns float32.
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    laid, (n, channels) = x if channels_last else x.contiguous(), x.shape[:2]
    ones = torch.ones(channels)
    _, mean, scale = torch.native_group_norm(laid, ones, ones, n, channels, x[0, 0].numel(), groups, TINY)
    return mean, (scale.square().reciprocal() - TINY).clamp_min(0)


def _normalise(norm: nn.GroupNorm, x: Tensor, moments: Moments) -> Tensor:
    """Return (x − μ)/√(σ² + ε)·γ + β of [n · images c …]: a batch norm that already knows its statistics."""
    weight, bias = (None if p is None else p.to(x.device, torch.float32) for p in (norm.weight, norm.bias))
    each = x.shape[1] // norm.num_groups
    mean, var = (t.to(x.device).repeat_interleave(each, 1) for t in (moments.mean, moments.var))
    made = [
        F.batch_norm(x[i :: len(mean)], mean[i], var[i], weight, bias, training=False, eps=norm.eps)
        for i in range(len(mean))
    ]
    return made[0] if len(made) == 1 else torch.stack(made, 1).flatten(0, 1)
