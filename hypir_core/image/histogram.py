"""What is known of all values of a picture that is seen block by block: moments, extremes and percentiles.

Integers of up to 16 bits are counted one by one, so their percentiles are exact. Of other values a sample is kept that
is uniform and the same in every run (a fixed seed); up to `SAMPLE_VALUES` per channel it holds all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import ShapeError

SAMPLE_VALUES = 1 << 18
"""Values of a channel that are kept where they cannot be counted; the rank of a percentile is off by about 0.1 %."""

COUNTABLE = {
    torch.bool: (0, 1),
    torch.uint8: (0, 255),
    torch.int8: (-128, 127),
    torch.uint16: (0, 65535),
    torch.int16: (-32768, 32767),
}
"""Formats whose every value has a counter of its own, and their least and greatest value."""


class Statistics:
    """Of a picture [b c *spatial], channel by channel; blocks may come in any shape, one after the other."""

    def __init__(self) -> None:
        self.channels: tuple[Channel, ...] = ()
        """What is known of each channel; empty before the first block."""

    def add(self, block: Tensor, valid: Tensor | None = None) -> None:
        """Take in one block.

        Args:
            block: [b c *spatial], any number of axes and any real format. NaN and infinities do not count.
            valid: [b|1 c|1 *spatial], true where a value counts; None counts all.

        Raises:
            ShapeError: the block has other channels than the blocks before, or `valid` does not fit it.
        """
        if block.ndim < 2:
            raise ShapeError(f"expected a block [b c *spatial], got {tuple(block.shape)}")
        if self.channels and block.shape[1] != len(self.channels):
            raise ShapeError(f"expected blocks of {len(self.channels)} channels, got {block.shape[1]}")
        if valid is not None:
            fits = valid.ndim == block.ndim and all(
                have in {1, want} for have, want in zip(valid.shape, block.shape, strict=True)
            )
            if not fits:
                raise ShapeError(f"expected a mask that fits {tuple(block.shape)}, got {tuple(valid.shape)}")
            valid = valid.bool().expand(block.shape)
        if not self.channels:
            self.channels = tuple(Channel(seed=number) for number in range(block.shape[1]))
        for number, channel in enumerate(self.channels):
            values = block[:, number].reshape(-1)
            channel.add(values if valid is None else values[valid[:, number].reshape(-1)])


@dataclass(kw_only=True, eq=False)
class Channel:
    """What is known of one channel."""

    seed: int
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of the squared distances from the mean, in float64."""
    low: float = float("inf")
    high: float = float("-inf")
    _counts: dict[torch.dtype, Tensor] = field(default_factory=dict)
    _sampled: int = 0
    """Values that the sample stands for."""
    _sample: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))
    _keys: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))
    """A random number for every value; those with the smallest are kept."""
    _random: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._random = torch.Generator().manual_seed(self.seed)

    def add(self, values: Tensor) -> None:
        """Take in values [n] of any real format."""
        whole = values.dtype in COUNTABLE
        numbers = values.double() if values.device.type != "mps" else values.cpu().double()
        if not whole:
            numbers = numbers[torch.isfinite(numbers)]
        count = len(numbers)
        if not count:
            return
        mean = float(numbers.mean())
        squares = float((numbers - mean).square().sum())
        self._merge(count, mean, squares)
        low, high = torch.aminmax(numbers)
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        if whole:
            self._count(values)
        else:
            self._keep(numbers.cpu())

    def _merge(self, count: int, mean: float, squares: float) -> None:
        """Join two sets' moments (Chan, Golub and LeVeque, 1979)."""
        both, step = self.count + count, mean - self.mean
        self.squares += squares + step * step * self.count * count / both
        self.mean += step * count / both
        self.count = both

    def _count(self, values: Tensor) -> None:
        least, greatest = COUNTABLE[values.dtype]
        places = values.cpu().to(torch.int32) - least
        counts = torch.bincount(places, minlength=greatest - least + 1)
        before = self._counts.get(values.dtype)
        self._counts[values.dtype] = counts if before is None else before + counts

    def _keep(self, numbers: Tensor) -> None:
        keys = torch.rand(len(numbers), generator=self._random, dtype=torch.float64)
        self._sampled += len(numbers)
        if len(self._keys) == SAMPLE_VALUES:
            likely = keys < self._keys.max()
            numbers, keys = numbers[likely], keys[likely]
        self._sample, self._keys = torch.cat([self._sample, numbers]), torch.cat([self._keys, keys])
        if len(self._keys) > SAMPLE_VALUES:
            self._keys, kept = self._keys.topk(SAMPLE_VALUES, largest=False)
            self._sample = self._sample[kept]

    def weighted(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (values, how often each was there), both [n] float64."""
        for dtype, counts in self._counts.items():
            there = counts.nonzero()[:, 0]
            yield (there + COUNTABLE[dtype][0]).double(), counts[there].double()
        if self._sampled:
            yield self._sample, torch.full_like(self._sample, self._sampled / len(self._sample))

    @property
    def deviation(self) -> float:
        """The standard deviation of all values, not of a sample of them."""
        return (self.squares / self.count) ** 0.5 if self.count else 0.0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a range is fitted on."""

    count: int
    low: float
    high: float
    mean: float
    deviation: float
    percentiles: tuple[float, ...]


def summarise(channels: Sequence[Channel], percents: Sequence[float] = ()) -> Summary:
    """Return what is known of some channels taken as one.

    Args:
        channels: at least one.
        percents: 0 … 100; a percentile between two values is interpolated as numpy does it.
    """
    joined = Channel(seed=0)
    for channel in channels:
        if channel.count:
            joined._merge(channel.count, channel.mean, channel.squares)
    return Summary(
        count=joined.count,
        low=min(channel.low for channel in channels),
        high=max(channel.high for channel in channels),
        mean=joined.mean,
        deviation=joined.deviation,
        percentiles=_percentiles(channels, percents) if joined.count else (),
    )


def _percentiles(channels: Sequence[Channel], percents: Sequence[float]) -> tuple[float, ...]:
    if not percents:
        return ()
    parts = [part for channel in channels for part in channel.weighted()]
    values, order = torch.cat([values for values, _ in parts]).sort()
    reached = torch.cat([counts for _, counts in parts])[order].cumsum(0)
    found = []
    for percent in percents:
        rank = percent / 100 * (float(reached[-1]) - 1)
        whole = int(rank)
        below, above = (_at(values, reached, r) for r in (whole, whole + 1))
        found.append(below + (above - below) * (rank - whole))
    return tuple(found)


def _at(values: Tensor, reached: Tensor, rank: int) -> float:
    """Return the value of a rank, counted from 0, the last one beyond the end."""
    place = int(torch.searchsorted(reached, torch.tensor(float(rank), dtype=torch.float64), right=True))
    return float(values[min(place, len(values) - 1)])
