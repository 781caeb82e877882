"""Enlarging by convolution and pixel shuffle, step by step: what the remote-sensing generators share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, prod

from torch import Tensor, nn

from ...errors import ConfigError
from .nd import PixelShuffle, icnr_, same_conv
from .quick import activated, in_blocks, shuffled_then

Step = tuple[nn.Module, PixelShuffle, nn.PReLU]
"""A convolution that makes channels for a block of cells, the shuffle into it, the activation."""


def steps_of(scales: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the factors of every step along every axis; an axis with fewer doublings waits for the last ones.

    Raises:
        ConfigError: a factor is no power of two.
    """
    if any(scale & (scale - 1) for scale in scales):
        raise ConfigError(
            f"scale: this architecture doubles step by step, so 1, 2, 4, 8 …, got {'×'.join(map(str, scales))}"
        )
    doublings = [scale.bit_length() - 1 for scale in scales]
    count = max(doublings)
    return tuple(tuple(2 if step >= count - n else 1 for n in doublings) for step in range(count))


def upsampler(channels: int, scales: Sequence[int], *, icnr: bool = False) -> nn.Sequential:
    """Return steps of 3-cell convolution, pixel shuffle, PReLU with one slope.

    Raises:
        ConfigError: a factor is no power of two.
    """
    layers: list[nn.Module] = []
    for factors in steps_of(scales):
        conv = same_conv(len(scales), channels, channels * prod(factors), 3)
        if icnr:
            icnr_(conv.weight, factors)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        layers += [conv, PixelShuffle(factors), nn.PReLU()]
    return nn.Sequential(*layers)


def steps_in(layers: nn.Sequential) -> list[Step]:
    """Return the steps of an `upsampler`."""
    each = list(layers)
    return list(zip(each[::3], each[1::3], each[2::3], strict=True))  # pyright: ignore[reportReturnType]


def enlarge(
    x: Tensor,
    steps: Sequence[Step],
    last: Callable[[Tensor], Tensor],
    *,
    scales: Sequence[int],
    channels: int,
    reach: int,
) -> Tensor:
    """Run the enlarging end of a generator: the steps, then `last`.

    Args:
        x: features [b channels *cells].
        steps: as `steps_of` the scales.
        last: [b channels *cells·scales] → [b c *cells·scales].
        scales: whole factor along every axis.
        channels: of the feature maps.
        reach: cells of `x` that a result depends on to each side (`radius_of`).
    """

    def run(block: Tensor) -> Tensor:
        for conv, shuffling, act in steps[:-1]:
            block = shuffling(activated(act, conv(block)))
        if not steps:
            return last(block)
        conv, shuffling, act = steps[-1]
        return shuffled_then(shuffling, act, last, conv(block))

    return in_blocks(x, run, scales=scales, reach=reach, numbers=channels * prod(scales))


def radius_of(scales: Sequence[int], *, before: int, step: int = 1, after: int) -> int:
    """Return the input cells that a result depends on to each side, along the axis where it sees farthest.

    Args:
        scales: whole factor along every axis.
        before: cells to each side of all layers at the input's size.
        step: of every step's convolution, at the size before it is enlarged.
        after: of all layers at the result's size.
    """
    widest = Fraction(0)
    for axis, scale in enumerate(scales):
        reach, factor = Fraction(before), 1
        for factors in steps_of(scales):
            reach += Fraction(step, factor)
            factor *= factors[axis]
        widest = max(widest, reach + Fraction(after, scale))
    return ceil(widest)
