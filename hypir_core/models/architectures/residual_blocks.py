"""The blocks that bodies of generators are built of. Each maps [b channels *cells] to the same shape.

Parameter names and numbers agree with those of opensr-srgan 0.5.1, whose files load.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .nd import BATCH_NORMS, MEAN_POOLS, same_conv
from .quick import activated, added, only_numbers

SLOPE = 0.2
"""Of the leaky rectifiers in dense blocks."""

REDUCTION = 16
"""How many channels share one of the attention's hidden ones (Zhang et al., arXiv 1807.02758, section 4.1)."""


class BlockKind(str, Enum):
    """What the body of a residual generator is built of."""

    standard = "standard"
    """Two convolutions, each with a batch norm (Ledig et al., arXiv 1609.04802, figure 4)."""
    res = "res"
    """Two convolutions without norms, the change scaled (Lim et al., arXiv 1707.02921, figure 2)."""
    rcab = "rcab"
    """As `res`, each channel weighted by what the whole picture shows (arXiv 1807.02758, figure 4)."""
    rrdb = "rrdb"
    """Three dense blocks in a row, the change scaled. Other than ESRGAN's, the dense blocks have no shortcuts."""
    lka = "lka"
    """As `res`, weighted by large-kernel attention (Guo et al., arXiv 2202.09741, equation 1)."""


def block_of(
    kind: BlockKind, dims: int, channels: int, kernel: int, res_scale: float
) -> tuple[nn.Module, int]:
    """Return a block and how many cells to each side it sees, pooling aside; `standard` has no scale of its change."""
    if kind is BlockKind.standard:
        return NormedBlock(dims, channels, kernel), 2 * (kernel // 2)
    if kind is BlockKind.rrdb:
        return DenseChain(dims, channels, max(16, channels // 3), res_scale), DenseChain.reach
    make: Callable[..., nn.Module] = {
        BlockKind.res: PlainBlock,
        BlockKind.rcab: ChannelAttentionBlock,
        BlockKind.lka: LargeKernelBlock,
    }[kind]
    more = LargeKernelAttention.reach if kind is BlockKind.lka else 0
    return make(dims, channels, kernel, res_scale), 2 * (kernel // 2) + more


class ConvLayer(nn.Module):
    """Convolution, then a batch norm and a PReLU with one slope where they are wanted."""

    def __init__(
        self, dims: int, inside: int, outside: int, kernel: int, *, norm: bool = False, slope: bool = False
    ):
        super().__init__()
        layers = [same_conv(dims, inside, outside, kernel)]
        layers += [BATCH_NORMS[dims](outside)] if norm else []
        layers += [nn.PReLU()] if slope else []
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers."""
        for layer in self.conv_block:
            x = activated(layer, x) if isinstance(layer, nn.PReLU) else layer(x)
        return x


class NormedBlock(nn.Module):
    """`BlockKind.standard`."""

    def __init__(self, dims: int, channels: int, kernel: int):
        super().__init__()
        self.conv_block1 = ConvLayer(dims, channels, channels, kernel, norm=True, slope=True)
        self.conv_block2 = ConvLayer(dims, channels, channels, kernel, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus the change."""
        return added(x, self.conv_block2(self.conv_block1(x)))


class PlainBlock(nn.Module):
    """`BlockKind.res`."""

    def __init__(self, dims: int, channels: int, kernel: int, res_scale: float):
        super().__init__()
        self.res_scale = res_scale
        self.body = nn.Sequential(
            same_conv(dims, channels, channels, kernel),
            nn.PReLU(),
            same_conv(dims, channels, channels, kernel),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus the scaled change."""
        first, act, second = self.body
        return added(x, second(activated(act, first(x))), self.res_scale)


class ChannelAttentionBlock(nn.Module):
    """`BlockKind.rcab`. It pools over all cells that it is given (`models.layers.shared_pools`)."""

    def __init__(self, dims: int, channels: int, kernel: int, res_scale: float):
        super().__init__()
        self.res_scale = res_scale
        self.conv1 = same_conv(dims, channels, channels, kernel)
        self.act = nn.PReLU()
        self.conv2 = same_conv(dims, channels, channels, kernel)
        hidden = max(1, channels // REDUCTION)
        self.se = nn.Sequential(
            MEAN_POOLS[dims](1),
            same_conv(dims, channels, hidden, 1),
            nn.ReLU(),
            same_conv(dims, hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus the scaled, weighted change."""
        change = self.conv2(activated(self.act, self.conv1(x)))
        weights = self.se(change)
        change = change.mul_(weights) if only_numbers() else change * weights
        return added(x, change, self.res_scale)


class LargeKernelAttention(nn.Module):
    """Weights in (0,1) from a field of 23 cells: 5 cells, then 7 cells of dilation 3, each channel for itself."""

    reach = 2 + 9

    def __init__(self, dims: int, channels: int):
        super().__init__()
        self.dw5 = same_conv(dims, channels, channels, 5, groups=channels)
        self.dw7d = same_conv(dims, channels, channels, 7, dilation=3, groups=channels)
        self.pw = same_conv(dims, channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, weighted."""
        weights = self.pw(self.dw7d(self.dw5(x)))
        return weights.sigmoid_().mul_(x) if only_numbers() else x * torch.sigmoid(weights)


class LargeKernelBlock(nn.Module):
    """`BlockKind.lka`."""

    def __init__(self, dims: int, channels: int, kernel: int, res_scale: float):
        super().__init__()
        self.res_scale = res_scale
        self.conv1 = same_conv(dims, channels, channels, kernel)
        self.act = nn.PReLU()
        self.lka = LargeKernelAttention(dims, channels)
        self.conv2 = same_conv(dims, channels, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus the scaled change."""
        inside = self.lka(activated(self.act, self.conv1(x)))
        return added(x, self.conv2(inside), self.res_scale)


class DenseBlock(nn.Module):
    """Five convolutions, each seeing all earlier outputs; the last one's output is the result."""

    def __init__(self, dims: int, channels: int, growth: int):
        super().__init__()
        for index in range(4):
            self.add_module(f"c{index + 1}", same_conv(dims, channels + index * growth, growth, 3))
        self.c5 = same_conv(dims, channels + 4 * growth, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is to be added to `x`, or to go on with."""
        seen = [x]
        for index in range(4):
            made = self.get_submodule(f"c{index + 1}")(torch.cat(seen, 1))
            seen.append(F.leaky_relu(made, SLOPE, inplace=only_numbers()))
        return self.c5(torch.cat(seen, 1))


class DenseChain(nn.Module):
    """`BlockKind.rrdb`."""

    reach = 15

    def __init__(self, dims: int, channels: int, growth: int, res_scale: float):
        super().__init__()
        self.res_scale = res_scale
        self.db1 = DenseBlock(dims, channels, growth)
        self.db2 = DenseBlock(dims, channels, growth)
        self.db3 = DenseBlock(dims, channels, growth)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus the scaled change."""
        return added(x, self.db3(self.db2(self.db1(x))), self.res_scale)
