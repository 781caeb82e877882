"""Which picture has its turn at a sample of the endless sequence; depends on (seed, index) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .mixed import Mixed
from .seeds import generator_for
from .source import Source, Weights

BLOCK = 1000
"""Samples in which the places of a mixture have exactly their shares, to a thousandth."""


@dataclass(frozen=True, eq=False)
class Turn:
    """A place in the order of one epoch."""

    order: Tensor
    """int64 [n]: the pictures of one place in the order of this epoch, counted from `first`."""
    place: int
    """Whose turn it is, in `order`."""
    first: int
    """Number in the source of the first picture of the place that is drawn from."""
    where: str
    """That place, for messages."""


def turn(source: Source, index: int, *, seed: int) -> Turn:
    """Return whose turn it is at sample `index`.

    One place: every epoch of its n pictures shows each once, in a new order. A mixture: of every `BLOCK` samples
    each place has exactly its share, in a new order; within a place every epoch of its own shows each picture once.
    """
    if not isinstance(source, Mixed):
        epoch, place = divmod(index, len(source))
        return Turn(_order(source, seed, epoch, ()), place, 0, source.where)
    shares = shares_of([part.weight for part in source.parts])
    block, at = divmod(index, BLOCK)
    chosen, before = _block_order(shares, seed, block)
    part = int(chosen[at])
    count = len(source.parts[part].source)
    epoch, place = divmod(block * shares[part] + int(before[at]), count)
    order = _order(source.parts[part].source, seed, epoch, (part,))
    return Turn(order, place, source.starts[part], source.parts[part].source.where)


def shares_of(weights: Sequence[float]) -> tuple[int, ...]:
    """Return how many of `BLOCK` samples each place has: in proportion, by the largest remainders, at least one."""
    exact = [weight / sum(weights) * BLOCK for weight in weights]
    shares = [max(1, int(each)) for each in exact]
    while (left := BLOCK - sum(shares)) != 0:
        lacking = [each - share for each, share in zip(exact, shares, strict=True)]
        step = 1 if left > 0 else -1
        movable = [n for n, share in enumerate(shares) if step > 0 or share > 1]
        shares[max(movable, key=lambda n: step * lacking[n])] += step
    return tuple(shares)


@lru_cache(maxsize=8)
def _block_order(shares: tuple[int, ...], seed: int, block: int) -> tuple[Tensor, Tensor]:
    """Return for every sample of a block its place, and how many samples of that place came before in the block."""
    places = torch.repeat_interleave(torch.arange(len(shares)), torch.tensor(shares))
    chosen = places[torch.randperm(BLOCK, generator=generator_for(seed, "places", block))]
    before = torch.zeros(BLOCK, dtype=torch.int64)
    for place in range(len(shares)):
        mine = chosen == place
        before[mine] = torch.arange(int(mine.sum()))
    return chosen, before


def _order(source: Source, seed: int, epoch: int, part: tuple[int, ...]) -> Tensor:
    """Return the order of an epoch; with weights some pictures come several times in it and others not."""
    if (weights := source.weights) is None:
        return _epoch_order(len(source), seed, epoch, part)
    return _drawn_order(weights, seed, epoch, part)


@lru_cache(maxsize=16)
def _drawn_order(weights: Weights, seed: int, epoch: int, part: tuple[int, ...]) -> Tensor:
    # By hand rather than by torch.multinomial, which takes 2^24 categories at most.
    bounds = weights.numbers.cumsum(0)
    generator = generator_for(seed, "weighted epoch", epoch, *part)
    drawn = torch.rand(len(bounds), generator=generator, dtype=torch.float64) * bounds[-1]
    return torch.searchsorted(bounds, drawn, right=True).clamp(max=len(bounds) - 1)


@lru_cache(maxsize=16)
def _epoch_order(count: int, seed: int, epoch: int, part: tuple[int, ...]) -> Tensor:
    return torch.randperm(count, generator=generator_for(seed, "epoch", epoch, *part))
