"""`srresnet`: the generator of SRGAN (Ledig et al., arXiv 1609.04802, figure 4), for any bands, pictures and volumes.

Parameter names and numbers agree with those of opensr-srgan 0.5.1, whose files load.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from ...errors import ConfigError
from .nd import PixelShuffle, same_conv
from .quick import TILE_SIDE, added
from .residual_blocks import ConvLayer, NormedBlock
from .sizes import Output, Sizes, at_least_one, odd
from .upsampling import enlarge, radius_of, steps_of


@dataclass(frozen=True, kw_only=True)
class SRResNetOptions(Sizes):
    """Size of the network."""

    channels: int = 64
    """Of every feature map."""
    blocks: int = 16
    """Residual blocks."""
    head_kernel: int = 9
    """Cells of the first and the last convolution."""
    body_kernel: int = 3
    """Cells of all others."""
    output: Output = Output.tanh
    """What the last convolution's numbers go through."""

    def __post_init__(self) -> None:
        super().__post_init__()
        steps_of(self.scales)
        problems = at_least_one(self, "channels", "blocks") + odd(self, "head_kernel", "body_kernel")
        if problems:
            raise ConfigError(problems)


class SRResNet(nn.Module):
    """Head, normed residual blocks with a long shortcut, steps of pixel shuffle, tail.

    Shapes: [b in_channels *cells] → [b out_channels *cells·scale], in the weights' range.
    """

    Options = SRResNetOptions

    def __init__(self, options: SRResNetOptions):
        super().__init__()
        self.options = options
        self.net = _Layers(options)

    @property
    def maps_per_cell(self) -> int:
        """Numbers of the largest map that is whole in memory, for every input cell: the body's, or the result."""
        o = self.options
        return max(2 * o.channels, o.makes * prod(o.scales))

    @property
    def tile_side(self) -> int:
        """Input cells along a side of a tile."""
        return TILE_SIDE[self.options.dims]

    @property
    def receptive_radius(self) -> int:
        """Input cells that a result depends on to each side."""
        o = self.options
        body, head = o.body_kernel // 2, o.head_kernel // 2
        return radius_of(o.scales, before=head + (2 * o.blocks + 1) * body, step=body, after=head)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge a batch; the network runs in its weights' format."""
        inside = x.to(next(self.parameters()).dtype)
        return self.options.output.of(self.net(inside)).to(x.dtype)


class _Layers(nn.Module):
    """Everything but the output's function, under the names that files have."""

    def __init__(self, o: SRResNetOptions):
        super().__init__()
        self.options = o
        self.conv_block1 = ConvLayer(o.dims, o.in_channels, o.channels, o.head_kernel, slope=True)
        self.residual_blocks = nn.Sequential(
            *(NormedBlock(o.dims, o.channels, o.body_kernel) for _ in range(o.blocks))
        )
        self.conv_block2 = ConvLayer(o.dims, o.channels, o.channels, o.body_kernel, norm=True)
        self.subpixel_convolutional_blocks = nn.Sequential(
            *(_Step(o, factors) for factors in steps_of(o.scales))
        )
        self.conv_block3 = ConvLayer(o.dims, o.channels, o.makes, o.head_kernel)

    @property
    def steps(self) -> list[_Step]:
        return list(self.subpixel_convolutional_blocks)  # pyright: ignore[reportReturnType]

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv_block1(x)
        o = self.options
        (last,) = self.conv_block3.conv_block
        return enlarge(
            added(first, self.conv_block2(self.residual_blocks(first))),
            [(s.conv, s.pixel_shuffle, s.prelu) for s in self.steps],
            last,
            scales=o.scales,
            channels=o.channels,
            reach=radius_of(o.scales, before=0, step=o.body_kernel // 2, after=o.head_kernel // 2),
        )


class _Step(nn.Module):
    """Convolution, pixel shuffle, PReLU with one slope: `enlarge` runs them."""

    def __init__(self, o: SRResNetOptions, factors: tuple[int, ...]):
        super().__init__()
        widened = o.channels
        for factor in factors:
            widened *= factor
        self.conv = same_conv(o.dims, o.channels, widened, o.body_kernel)
        self.pixel_shuffle = PixelShuffle(factors)
        self.prelu = nn.PReLU()
