"""The same numbers in less time and memory, where nothing but numbers is wanted: no gradients, no graph.

Three things cost a generator time besides its multiplications. New memory: the system hands it out page by page, which
takes longer than an activation; so results of convolutions are overwritten. Large maps: at the size of the result a
feature map is larger than any cache; so the enlarging end is run block by block. Few bands: a processor multiplies
`LANES` channels at a time, and a last convolution makes four; so it runs before the pixel shuffle, where a block of
cells lies in channels, and makes them all together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import ceil, prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .nd import Convolution, PixelShuffle, shuffle, unshuffle

LANES = 16
"""Channels that a processor multiplies at a time: what a vector of 512 bits holds in float32."""

MOST_NUMBERS = {"cpu": 7 << 20}
"""Of the largest map of a block by the kind of device. On a processor 28 MiB: glibc gives larger than 32 MiB back to the
system whenever they are freed, and a third-level cache is about as large."""

MOST_NUMBERS_ELSEWHERE = 1 << 28

TILE_SIDE = {2: 512, 3: 64}
"""Input cells along a side of a tile by the number of axes, for generators whose large maps are never whole in memory:
less of a scene is computed twice than with the smaller tiles of others."""


def only_numbers() -> bool:
    """Tell whether nobody wants gradients or a graph: then results of layers may be overwritten."""
    traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]  # torch's documented name
    return not (torch.is_grad_enabled() or traced or torch.compiler.is_compiling())


def activated(act: nn.Module, x: Tensor) -> Tensor:
    """Return `act(x)` of a convolution's result `x`, which is overwritten where only numbers are wanted."""
    if not isinstance(act, nn.PReLU) or act.num_parameters > 1:
        return act(x)
    if x.device.type != "cpu" or not only_numbers():
        return act(x)
    return F.leaky_relu_(x, act.weight.item())


def added(x: Tensor, change: Tensor, factor: float = 1.0) -> Tensor:
    """Return ``x + factor · change``; `change` is overwritten where only numbers are wanted."""
    if not only_numbers():
        return x + (change if factor == 1 else factor * change)
    return (change if factor == 1 else change.mul_(factor)).add_(x)


def in_blocks(
    x: Tensor, run: Callable[[Tensor], Tensor], *, scales: Sequence[int], reach: int, numbers: int
) -> Tensor:
    """Return ``run(x)``: at once, or block by block where only numbers are wanted and its maps are large.

    Args:
        x: [b c *cells].
        run: enlarges by `scales`; beyond the borders it sees zeros.
        scales: whole factor along every axis.
        reach: cells of `x` that a result depends on to each side.
        numbers: of its largest map, for every cell of `x`.
    """
    most = MOST_NUMBERS.get(x.device.type, MOST_NUMBERS_ELSEWHERE) // (len(x) * numbers)
    if not only_numbers() or x[0, 0].numel() <= most:
        return run(x)
    side = max(1, int(most ** (1 / len(scales))) - 2 * reach)
    whole: Tensor | None = None
    for place in product(*(_evenly(length, side) for length in x.shape[2:])):
        seen = [slice(max(0, part.start - reach), part.stop + reach) for part in place]
        made = run(x[(..., *seen)])
        if whole is None:
            sizes = (length * f for length, f in zip(x.shape[2:], scales, strict=True))
            whole = made.new_empty(*made.shape[:2], *sizes)
        spans = list(zip(place, seen, scales, strict=True))
        inside = [slice((p.start - s.start) * f, (p.stop - s.start) * f) for p, s, f in spans]
        whole[(..., *[slice(p.start * f, p.stop * f) for p, _, f in spans])] = made[(..., *inside)]
    assert whole is not None
    return whole


def shuffled_then(
    shuffling: PixelShuffle, act: nn.PReLU, last: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    """Return ``last(shuffling(act(x)))`` of a convolution's result `x`.

    Where only numbers are wanted on a processor and `last` is a convolution that makes few channels, it runs before
    the shuffle, with `folded_kernel`.
    """
    x, factors = activated(act, x), shuffling.factors
    if (
        not isinstance(last, (nn.Conv2d, nn.Conv3d))
        or x.device.type != "cpu"
        or not only_numbers()
        or not _folding_pays(last, factors)
    ):
        return last(shuffling(x))
    weight = folded_kernel(last.weight, factors)
    bias = None if last.bias is None else last.bias.repeat_interleave(prod(factors))
    convolve = F.conv2d if len(factors) == 2 else F.conv3d
    padding = tuple(size // 2 for size in weight.shape[2:])
    return shuffle(convolve(x, weight, bias, padding=padding), factors)


def folded_kernel(weight: Tensor, factors: Sequence[int]) -> Tensor:
    """Return the kernel that does before a shuffle by `factors` what [o c *kernel] does after it.

    [o·∏f c·∏f *cells]. A result at cell f·i + p that looks t cells further looks at cell i + ⌊(p + t)/f⌋, and there at
    the one of the f that is left over: the kernel, laid p cells from the start of whole blocks, unshuffled.
    """
    sides = [size // 2 for size in weight.shape[2:]]
    blocks = [2 * ceil(side / f) + 1 for side, f in zip(sides, factors, strict=True)]
    kernels = []
    for place in product(*map(range, factors)):
        pads: list[int] = []
        for p, side, f, n in zip(place, sides, factors, blocks, strict=True):
            before = n // 2 * f - side + p
            pads = [before, n * f - before - 2 * side - 1, *pads]
        kernels.append(unshuffle(F.pad(weight, pads), factors))
    return torch.stack(kernels, 1).flatten(0, 1)


def _folding_pays(conv: Convolution, factors: Sequence[int]) -> bool:
    """Tell whether a convolution costs less before a shuffle than after it; its zeros must be those of `same_conv`."""
    plain = tuple(size // 2 for size in conv.kernel_size)
    if conv.groups > 1 or conv.padding != plain or {*conv.dilation, *conv.stride} != {1}:
        return False
    together, cells = prod(factors), [2 * ceil(side / f) + 1 for side, f in zip(plain, factors, strict=True)]
    after = prod(conv.kernel_size) * _lanes(conv.out_channels) * together
    return prod(cells) * together * _lanes(conv.out_channels * together) < after


def _lanes(channels: int) -> int:
    return -(-channels // LANES) * LANES


def _evenly(length: int, most: int) -> Iterator[slice]:
    """Yield the fewest nearly equal parts of at most so many cells."""
    count = -(-length // most)
    for i in range(count):
        yield slice(i * length // count, (i + 1) * length // count)
