"""`esrgan`: dense blocks, pixel shuffle, a finishing convolution, as the remote-sensing GANs have it.

It is not the network of Real-ESRGAN's files: that one is `rrdb`, whose dense blocks have shortcuts of their own and
which enlarges by repeating cells. Parameter names and numbers agree with those of opensr-srgan 0.5.1, whose files load.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from .nd import same_conv
from .quick import TILE_SIDE, added, only_numbers
from .residual_blocks import SLOPE, DenseChain
from .sizes import Output, Sizes, at_least_one
from .upsampling import enlarge, radius_of, steps_in, steps_of, upsampler

START = 0.1
"""Factor on He's initialisation: small changes at first (Wang et al., arXiv 1809.00219, section 3.1)."""


@dataclass(frozen=True, kw_only=True)
class EsrganOptions(Sizes):
    """Size of the network."""

    channels: int = 64
    """Of the trunk."""
    blocks: int = 23
    """Chains of three dense blocks."""
    growth: int = 32
    """Channels that every convolution of a dense block adds."""
    res_scale: float = 0.2
    """Factor on what a chain adds."""
    icnr: bool = True
    """Start the enlarging convolutions without checkerboard; a file's weights replace what it starts from."""
    output: Output = Output.linear
    """What the last convolution's numbers go through."""

    def __post_init__(self) -> None:
        super().__post_init__()
        steps_of(self.scales)
        problems = at_least_one(self, "channels", "blocks", "growth")
        if problems:
            raise ConfigError(problems)


class Esrgan(nn.Module):
    """The generator.

    Shapes: [b in_channels *cells] → [b out_channels *cells·scale], in the weights' range.
    """

    Options = EsrganOptions

    def __init__(self, options: EsrganOptions):
        super().__init__()
        o = self.options = options
        self.conv_first = same_conv(o.dims, o.in_channels, o.channels, 3)
        self.body = nn.Sequential(
            *(DenseChain(o.dims, o.channels, o.growth, o.res_scale) for _ in range(o.blocks))
        )
        self.conv_body = same_conv(o.dims, o.channels, o.channels, 3)
        self.upsampler = upsampler(o.channels, o.scales, icnr=o.icnr)
        self.conv_hr = same_conv(o.dims, o.channels, o.channels, 3)
        self.conv_last = same_conv(o.dims, o.channels, o.makes, 3)
        for part in (self.conv_first, self.body, self.conv_body, self.conv_hr, self.conv_last):
            part.apply(_start_small_)

    @property
    def maps_per_cell(self) -> int:
        """Numbers of the largest map that is whole in memory, for every input cell: a dense block's, or the result."""
        o = self.options
        return max(o.channels + 4 * o.growth, o.makes * prod(o.scales))

    @property
    def tile_side(self) -> int:
        """Input cells along a side of a tile."""
        return TILE_SIDE[self.options.dims]

    @property
    def receptive_radius(self) -> int:
        """Input cells that a result depends on to each side."""
        o = self.options
        return radius_of(o.scales, before=2 + o.blocks * DenseChain.reach, after=2)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge a batch; the network runs in its weights' format."""
        first = self.conv_first(x.to(self.conv_last.weight.dtype))
        o = self.options
        made = enlarge(
            added(first, self.conv_body(self.body(first))),
            steps_in(self.upsampler),
            self._finish,
            scales=o.scales,
            channels=o.channels,
            reach=radius_of(o.scales, before=0, after=2),
        )
        return o.output.of(made).to(x.dtype)

    def _finish(self, x: Tensor) -> Tensor:
        return self.conv_last(F.leaky_relu(self.conv_hr(x), SLOPE, inplace=only_numbers()))


def _start_small_(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Conv3d)):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        assert module.bias is not None
        module.weight.data.mul_(START)
        nn.init.zeros_(module.bias)
