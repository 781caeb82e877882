"""`residual`: one trunk for five kinds of blocks, any bands, pictures and volumes.

Parameter names and numbers agree with those of opensr-srgan 0.5.1, whose files load.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from ...errors import ConfigError
from .nd import same_conv
from .quick import TILE_SIDE, activated, added
from .residual_blocks import BlockKind, block_of
from .sizes import Output, Sizes, at_least_one, odd
from .upsampling import enlarge, radius_of, steps_in, steps_of, upsampler


@dataclass(frozen=True, kw_only=True)
class TrunkOptions(Sizes):
    """What `residual` and `stochastic` have in common."""

    channels: int = 64
    """Of every feature map."""
    blocks: int = 16
    """How many blocks the body has."""
    head_kernel: int = 9
    """Cells of the first and the last convolution."""
    body_kernel: int = 3
    """Cells of the body's convolutions."""
    res_scale: float = 0.2
    """Factor on what a block adds; less is steadier for deep bodies. `standard` blocks have none."""
    output: Output = Output.linear
    """What the last convolution's numbers go through."""

    def __post_init__(self) -> None:
        super().__post_init__()
        steps_of(self.scales)
        problems = at_least_one(self, "channels", "blocks") + odd(self, "head_kernel", "body_kernel")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, kw_only=True)
class ResidualOptions(TrunkOptions):
    """Size of the network."""

    block: BlockKind = BlockKind.res
    """What the body is built of."""


class Trunk(nn.Module):
    """Head, a body of blocks, a long shortcut, steps of pixel shuffle, tail.

    Shapes: [b in_channels *cells] → [b out_channels *cells·scale], in the weights' range.
    """

    def __init__(self, options: TrunkOptions, blocks: Iterable[nn.Module], *, reach: int):
        """Make it around the blocks of a body, each of which sees `reach` cells to each side."""
        super().__init__()
        o = self.options = options
        self.reach = reach
        self.head = nn.Sequential(same_conv(o.dims, o.in_channels, o.channels, o.head_kernel), nn.PReLU())
        self.body = nn.ModuleList(blocks)
        self.body_tail = same_conv(o.dims, o.channels, o.channels, o.body_kernel)
        self.upsampler = upsampler(o.channels, o.scales)
        self.tail = same_conv(o.dims, o.channels, o.makes, o.head_kernel)

    @property
    def maps_per_cell(self) -> int:
        """Numbers of the largest map that is whole in memory, for every input cell: dense blocks', or the result."""
        o = self.options
        return max(5 * o.channels // 2, o.makes * prod(o.scales))

    @property
    def tile_side(self) -> int:
        """Input cells along a side of a tile."""
        return TILE_SIDE[self.options.dims]

    @property
    def receptive_radius(self) -> int:
        """Input cells that a result depends on to each side, pooling aside."""
        o = self.options
        head = o.head_kernel // 2
        before = head + o.blocks * self.reach + o.body_kernel // 2
        return radius_of(o.scales, before=before, after=head)

    def run(self, x: Tensor, *told: Tensor) -> Tensor:
        """Enlarge a batch, in the weights' format; every block is `told` the same."""
        dtype = self.tail.weight.dtype
        told = tuple(one.to(dtype) for one in told)
        conv, act = self.head
        first = change = activated(act, conv(x.to(dtype)))
        for block in self.body:
            change = block(change, *told)
        o = self.options
        made = enlarge(
            added(first, self.body_tail(change)),
            steps_in(self.upsampler),
            self.tail,
            scales=o.scales,
            channels=o.channels,
            reach=radius_of(o.scales, before=0, after=o.head_kernel // 2),
        )
        return o.output.of(made).to(x.dtype)


class Residual(Trunk):
    """A `Trunk` whose blocks are of one `BlockKind`."""

    Options = ResidualOptions

    def __init__(self, options: ResidualOptions):
        o = options
        made = [block_of(o.block, o.dims, o.channels, o.body_kernel, o.res_scale) for _ in range(o.blocks)]
        super().__init__(o, (block for block, _ in made), reach=made[0][1])

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge a batch; the network runs in its weights' format."""
        return self.run(x)
