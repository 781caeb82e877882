"""Layers by the number of spatial axes: 2 for pictures, 3 for volumes. One class of network serves both."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Convolution: TypeAlias = nn.Conv2d | nn.Conv3d

CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
MEAN_POOLS = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}

AXES = tuple(CONVOLUTIONS)
"""How many spatial axes a network may have."""


def same_conv(
    dims: int, inside: int, outside: int, kernel: int, *, dilation: int = 1, groups: int = 1
) -> Convolution:
    """Return a convolution whose result has the size of its input: zeros are laid around it.

    Args:
        dims: spatial axes.
        inside: channels that it takes.
        outside: channels that it makes.
        kernel: odd, along every axis.
        dilation: cells from one weight to the next.
        groups: as torch's.
    """
    padding = (kernel - 1) * dilation // 2
    return CONVOLUTIONS[dims](inside, outside, kernel, padding=padding, dilation=dilation, groups=groups)


def shuffle(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Move channels into space: [b c·∏factors *cells] → [b c *cells·factors].

    Convention: channel ``(c·f₁ + i₁)·f₂ + i₂ …`` goes to the cell ``cell·f + i`` of channel c, the slowest axis first:
    what `torch.nn.functional.pixel_shuffle` does for two equal factors (Shi et al., arXiv 1609.05158, eq. 4).
    """
    if len(factors) == 2 and factors[0] == factors[1]:
        return F.pixel_shuffle(x, factors[0])
    axes, cells = len(factors), x.shape[2:]
    parted = x.reshape(x.shape[0], -1, *factors, *cells)
    order = [0, 1]
    for axis in range(axes):
        order += [2 + axes + axis, 2 + axis]
    return parted.permute(order).reshape(
        x.shape[0], -1, *(c * f for c, f in zip(cells, factors, strict=True))
    )


def unshuffle(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Move space into channels: what `shuffle` takes back. Sizes must divide by the factors."""
    if len(factors) == 2 and factors[0] == factors[1]:
        return F.pixel_unshuffle(x, factors[0])
    axes, cells = len(factors), x.shape[2:]
    parted = x.reshape(*x.shape[:2], *(n for c, f in zip(cells, factors, strict=True) for n in (c // f, f)))
    order = [0, 1, *range(3, 3 + 2 * axes, 2), *range(2, 2 + 2 * axes, 2)]
    return parted.permute(order).reshape(
        x.shape[0], x.shape[1] * prod(factors), *(c // f for c, f in zip(cells, factors, strict=True))
    )


def shuffled(
    x: Tensor, last: Convolution, factors: Sequence[int], kept: Sequence[int] | None = None
) -> Tensor:
    """Return `shuffle(last(x), factors)`, or its means over blocks without making it.

    A mean over what a convolution makes is a convolution with the mean of its weights.

    Args:
        x: [b c *cells].
        last: makes c'·∏factors channels.
        factors: of the full result.
        kept: smaller ones, which divide them: [b c' *cells·kept] comes out. None: all of it.
    """
    if kept is None or tuple(kept) == tuple(factors):
        return shuffle(last(x), factors)
    assert last.bias is not None
    weight, bias = (block_means(rows, factors, kept) for rows in (last.weight, last.bias))
    convolve = F.conv2d if len(factors) == 2 else F.conv3d
    return shuffle(convolve(x, weight, bias, padding=last.padding), kept)  # pyright: ignore[reportArgumentType]


def block_means(rows: Tensor, factors: Sequence[int], kept: Sequence[int]) -> Tensor:
    """Return the means of rows that `shuffle` lays into one block, [c·∏factors …] → [c·∏kept …]."""
    fine = [side for factor, k in zip(factors, kept, strict=True) for side in (k, factor // k)]
    return (
        rows.unflatten(0, (-1, *fine))
        .mean([2 + 2 * axis for axis in range(len(factors))])
        .flatten(0, len(factors))
    )


class PixelShuffle(nn.Module):
    """`shuffle` as a layer."""

    def __init__(self, factors: Sequence[int]):
        super().__init__()
        self.factors = tuple(factors)

    def forward(self, x: Tensor) -> Tensor:
        """Move channels into space."""
        return shuffle(x, self.factors)

    def extra_repr(self) -> str:
        """Name the factors."""
        return "×".join(map(str, self.factors))


def enlarged(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Repeat every cell: [b c *cells] → [b c *cells·factors]."""
    return F.interpolate(x, scale_factor=[float(f) for f in factors], mode="nearest")


def icnr_(weight: Tensor, factors: Sequence[int]) -> None:
    """Start a convolution before a `shuffle` so that all cells of a block come out alike: no checkerboard.

    Aitken et al., arXiv 1707.02937, section 4: one kernel of He's initialisation for each block, repeated.
    """
    each = prod(factors)
    kernels = torch.empty(
        weight.shape[0] // each, *weight.shape[1:], dtype=weight.dtype, device=weight.device
    )
    nn.init.kaiming_normal_(kernels)
    with torch.no_grad():
        weight.copy_(kernels.repeat_interleave(each, 0))
