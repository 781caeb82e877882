"""`span`: six blocks whose attention is made of their own features, without a weight for it.

Wan et al., "Swift Parameter-free Attention Network for Efficient Super-Resolution", arXiv 2311.12770. Trained and run
with plain convolutions; `span_layout` says how a file holds them so that ComfyUI's stock loader reads it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from .nd import same_conv, shuffled
from .sizes import Sizes, at_least_one
from .span_layout import as_plain, as_stock

BLOCKS = 6
"""Blocks of the paper's network, and of the stock layout."""
SILU_GAIN = 1.6
"""Gain that keeps the size of unit normal numbers through SiLU."""
OPEN = 1.5
"""Bias that a block's third convolution starts with: its attention is then near sigmoid(1.5) - ½ = 0.32 everywhere."""
CLOSED = 2.0
"""Gain that makes up for that attention in the next block."""


@dataclass(frozen=True, kw_only=True)
class SpanOptions(Sizes):
    """Size of the network."""

    features: int = 48
    """Channels of every feature map."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if problems := at_least_one(self, "features"):
            raise ConfigError(problems)


class StockConv(nn.Module):
    """A convolution over 3 cells, under the name that the stock layout has for it."""

    def __init__(self, dims: int, inside: int, outside: int):
        super().__init__()
        self.eval_conv = same_conv(dims, inside, outside, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of [b inside *cells]."""
        return self.eval_conv(x)


class Block(nn.Module):
    """Three convolutions; the result and the input, added, are weighted by the result's own sigmoid less ½."""

    def __init__(self, dims: int, features: int):
        super().__init__()
        self.c1_r = StockConv(dims, features, features)
        self.c2_r = StockConv(dims, features, features)
        self.c3_r = StockConv(dims, features, features)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the next block takes and what the first convolution gave, activated.

        Without gradients the convolutions' results are overwritten: a tenth of the time of a picture.
        """
        over = not torch.is_grad_enabled()
        first = F.silu(self.c1_r(x), inplace=over)
        third = self.c3_r(F.silu(self.c2_r(first), inplace=over))
        gate = torch.sigmoid(third)
        if over:
            return third.add_(x).mul_(gate.sub_(0.5)), first
        return (third + x) * (gate - 0.5), first


class Span(nn.Module):
    """First convolution, six blocks, what four places of them gave side by side, pixel shuffle.

    Shapes: [b in_channels *cells] → [b out_channels *cells·scale]; range [0,1] in and (unclamped) out. There is no
    skip of the picture: it is passed on among the features, and before any training comes out enlarged by parabolas
    (where as many channels come out as go in, and no more than there are features).
    """

    Options = SpanOptions
    for_file = staticmethod(as_stock)
    from_file = staticmethod(as_plain)

    def __init__(self, options: SpanOptions):
        super().__init__()
        o = self.options = options
        self.conv_1 = StockConv(o.dims, o.in_channels, o.features)
        for number in range(1, BLOCKS + 1):
            self.add_module(f"block_{number}", Block(o.dims, o.features))
        self.conv_2 = StockConv(o.dims, o.features, o.features)
        self.conv_cat = same_conv(o.dims, 4 * o.features, o.features, 1)
        self.upsampler = nn.ModuleList([same_conv(o.dims, o.features, o.makes * prod(o.scales), 3)])
        self._initialise()

    @property
    def blocks(self) -> list[Block]:
        """The blocks in their order."""
        return [self.get_submodule(f"block_{number}") for number in range(1, BLOCKS + 1)]  # pyright: ignore[reportReturnType]

    @torch.no_grad()
    def _initialise(self) -> None:
        """Keep the signal's size through the blocks and pass the picture on to the last convolution.

        With torch's default a block gives the square of small numbers, and the sixth block nothing. Here the attention
        starts open, so that a block is nearly linear in its input. The first channels of the features are the picture;
        `conv_cat` takes them unchanged, and the last convolution enlarges them.
        """
        o = self.options
        _normal(self.conv_1.eval_conv, 2.0)
        for number, block in enumerate(self.blocks):
            _normal(block.c1_r.eval_conv, CLOSED if number else 1.0)
            _normal(block.c2_r.eval_conv, SILU_GAIN)
            _normal(block.c3_r.eval_conv, 0.7 * SILU_GAIN)
            nn.init.constant_(_bias(block.c3_r.eval_conv), OPEN)
        _normal(self.conv_2.eval_conv, 1.0)
        _normal(self.conv_cat, 0.7)
        last = self.upsampler[0]
        assert isinstance(last, (nn.Conv2d, nn.Conv3d))
        _normal(last, 0.02)
        if o.makes != o.in_channels or o.features < o.in_channels:
            return
        passed = range(o.in_channels)
        first, kept = self.conv_1.eval_conv.weight, self.conv_cat.weight
        for channel in passed:
            first[channel] = 0
            first[(channel, channel, *[1] * o.dims)] = 1
            kept[channel] = 0
            kept[(channel, channel, *[0] * o.dims)] = 1
        kernels = parabola_kernels(o.scales)
        each = kernels.shape[0]
        for channel in passed:
            last.weight[channel * each : (channel + 1) * each, : o.in_channels] = 0
            last.weight[channel * each : (channel + 1) * each, channel] = kernels

    takes_kept = True
    """`forward` takes smaller factors than the network's."""

    @property
    def maps_per_cell(self) -> int:
        """Numbers of the largest feature map, for every input cell."""
        o = self.options
        return max(4 * o.features, 2 * o.makes * prod(o.scales))

    @property
    def receptive_radius(self) -> int:
        """Input cells that a result depends on to each side: one per convolution over three."""
        return 3 * BLOCKS + 3

    def forward(self, image_01: Tensor, kept: Sequence[int] | None = None) -> Tensor:
        """Enlarge a batch, in the format of the weights; the result is in the input's.

        Args:
            image_01: [b in_channels *cells] in [0,1].
            kept: smaller factors, which divide the network's: the result's means over blocks (`nd.shuffled`).
        """
        start = self.conv_1(image_01.to(self.conv_cat.weight.dtype))
        x, outs, first = start, [], start
        for block in self.blocks:
            x, first = block(x)
            outs.append(x)
        joined = self.conv_cat(torch.cat([start, self.conv_2(x), outs[0], first], 1))
        last = self.upsampler[0]
        assert isinstance(last, (nn.Conv2d, nn.Conv3d))
        return shuffled(joined, last, self.options.scales, kept).to(image_01.dtype)


def _normal(conv: nn.Conv2d | nn.Conv3d, gain: float) -> None:
    nn.init.normal_(conv.weight, std=gain / conv.weight[0].numel() ** 0.5)
    nn.init.zeros_(_bias(conv))


def _bias(conv: nn.Conv2d | nn.Conv3d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def parabola_kernels(scales: tuple[int, ...]) -> Tensor:
    """Return the kernels [∏scales 3 …] that enlarge by the parabola through every three neighbours.

    Cell i of f lies at t = (i + ½)/f - ½ from the middle one; its weights are t(t-1)/2, 1 - t², t(t+1)/2. Order of the
    cells as in `nd.shuffle`.
    """
    kernels = torch.ones(1, *[1] * len(scales))
    for axis, factor in enumerate(scales):
        t = (torch.arange(factor) + 0.5) / factor - 0.5
        line = torch.stack([t * (t - 1) / 2, 1 - t**2, t * (t + 1) / 2], 1)
        shape = [1] * len(scales)
        shape[axis] = 3
        wide = kernels[:, None] * line.reshape(1, factor, *shape)
        kernels = wide.flatten(0, 1)
    return kernels
