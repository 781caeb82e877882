"""Group norms that treat every tile of a picture alike.

A group norm takes its statistics from what it is given: cut into tiles, a picture is normalised tile by tile, and
brightness, contrast and texture drift from one to the next. Here the statistics are estimated once, on a sample of
the picture that goes through the network together, and then used for all tiles. What is left to a tile is a scale
and an offset per channel, which is also one pass over memory less.

Scale and offset are the layer's own business: a host may keep them elsewhere, quantised, or patch them while they are
used. Any layer but torch's plain one is therefore asked for them through its own forward.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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

Forward = Callable[[Tensor], Tensor]
"""[n c …] → the same."""

PerPass = dict[Hashable, Moments]
"""By pass: None where a network is run once over a tile."""

Found = Mapping[nn.Module, PerPass]


@dataclass(kw_only=True)
class Now:
    """What a network is being used for."""

    pass_: Hashable = None
    """Which of the passes over a tile is running."""
    gathering: bool = False
    """Whether statistics are being gathered: then no pass may be left out."""


@dataclass(frozen=True, eq=False)
class SharedNorms:
    """The group norms of one network."""

    net: nn.Module
    now: Now = field(default_factory=Now)

    @contextmanager
    def of_pass(self, name: Hashable) -> Iterator[None]:
        """Within it, statistics are gathered and used for themselves.

        A network that is run several times over one tile (a region of the prompt each, with and without a prompt) sees
        other features each time.
        """
        before, self.now.pass_ = self.now.pass_, name
        try:
            yield
        finally:
            self.now.pass_ = before

    @contextmanager
    def gathering(self, shares: Tensor) -> Iterator[dict[nn.Module, PerPass]]:
        """Within it, crops of a picture are normalised together; yields the statistics, filled as they run.

        Args:
            shares: [crops images], each column sums to 1: how much a crop counts. Batches must come as
                [crops · images …], one crop of every image after the other.
        """
        found: dict[nn.Module, PerPass] = {}

        def gather(norm: nn.GroupNorm, own: Forward, x: Tensor) -> Tensor:
            moments = _moments(x, norm.num_groups, shares)
            found.setdefault(norm, {})[self.now.pass_] = moments
            return _normalise(norm, own, x, moments)

        with self._replaced(lambda norm, own: partial(gather, norm, own)):
            self.now.gathering = True
            try:
                yield found
            finally:
                self.now.gathering = False

    @contextmanager
    def using(self, found: Found) -> Iterator[None]:
        """Within it, batches [tiles · images …] are normalised by `found`."""

        def use(norm: nn.GroupNorm, own: Forward, x: Tensor) -> Tensor:
            moments = found[norm].get(self.now.pass_)
            return own(x) if moments is None else _normalise(norm, own, x, moments)

        with self._replaced(lambda norm, own: partial(use, norm, own) if norm in found else None):
            yield

    @contextmanager
    def _replaced(self, forward: Callable[[nn.GroupNorm, Forward], Forward | None]) -> Iterator[None]:
        norms = [module for module in self.net.modules() if isinstance(module, nn.GroupNorm)]
        before = {norm: norm.__dict__.get("forward") for norm in norms}
        try:
            for norm in norms:
                if (new := forward(norm, norm.forward)) is not None:
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
        return _moments_without_copies(x, groups)
    # The norm's own kernel needs no float32 copies; with weights in float32 it returns float32.
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    laid, (n, channels) = x if channels_last else x.contiguous(), x.shape[:2]
    ones = torch.ones(channels)
    _, mean, scale = torch.native_group_norm(laid, ones, ones, n, channels, x[0, 0].numel(), groups, TINY)
    return mean, (scale.square().reciprocal() - TINY).clamp_min(0)


def _moments_without_copies(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return the same by reductions that add up in float32 while they read: no loop, no float32 copy of a batch.

    In 16 bits the features are first shifted by their mean c, as near as the format has it: σ² = ‖x − c‖²/m − (μ − c)²
    loses no digits where |μ| is far above σ.
    """
    grouped = x.unflatten(1, (groups, -1))
    axes, m = list(range(2, grouped.ndim)), grouped[0, 0].numel()
    if x.dtype == torch.float32:
        var, mean = torch.var_mean(grouped, dim=axes, correction=0)
        return mean, var
    mean = grouped.sum(axes, keepdim=True, dtype=torch.float32) / m
    near = mean.to(x.dtype)
    apart = torch.linalg.vector_norm(grouped - near, dim=axes, keepdim=True, dtype=torch.float32)
    var = apart.square() / m - (mean - near).square()
    return mean.flatten(1), var.clamp_min(0).flatten(1)


def _normalise(norm: nn.GroupNorm, own: Forward, x: Tensor, moments: Moments) -> Tensor:
    """Return (x − μ)/√(σ² + ε)·γ + β of [n · images c …]: a batch norm that already knows its statistics."""
    weight, bias = (None if p is None else p.to(x.device, torch.float32) for p in _affine(norm, own, x))
    each = x.shape[1] // norm.num_groups
    mean, var = (t.to(x.device).repeat_interleave(each, 1) for t in (moments.mean, moments.var))
    made = [
        F.batch_norm(x[i :: len(mean)], mean[i], var[i], weight, bias, training=False, eps=norm.eps)
        for i in range(len(mean))
    ]
    return made[0] if len(made) == 1 else torch.stack(made, 1).flatten(0, 1)


def _affine(norm: nn.GroupNorm, own: Forward, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return γ and β, each [c], of a norm whose own forward is `own`, as it applies them to `x`.

    A layer that is not torch's plain one is given 1 and −1 in every group, whose mean is 0 and whose variance is 1: it
    answers β ± γ/√(1 + ε), with whatever it does to its weights on the way.
    """
    if type(norm) is nn.GroupNorm and getattr(own, "__func__", None) is nn.GroupNorm.forward:
        return norm.weight, norm.bias
    probe = torch.tensor([1.0, -1.0], device=x.device, dtype=x.dtype).expand(1, norm.num_channels, 2)
    plus, minus = own(probe.contiguous())[0].float().unbind(-1)
    return (plus - minus) * ((1 + norm.eps) ** 0.5 / 2), (plus + minus) / 2
