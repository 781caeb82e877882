"""`rrdb`: the ESRGAN generator (Wang et al., arXiv 1809.00219, figures 3 and 4).

Parameter names follow the RRDBNet layout of Real-ESRGAN (``conv_first``, ``body.N.rdbM.convK``, ``conv_body``,
``conv_up1``, ``conv_up2``, ``conv_hr``, ``conv_last``), which spandrel recognises.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from .nd import enlarged, same_conv, unshuffle
from .sizes import Sizes, at_least_one

RESIDUAL_SCALE = 0.2
"""Factor on every residual branch (section 3.1 of the paper)."""


class DenseBlock(nn.Module):
    """Five 3-cell convolutions, each seeing all earlier outputs. [b features *cells] → the same."""

    def __init__(self, dims: int, features: int, growth: int):
        super().__init__()
        for index in range(4):
            self.add_module(f"conv{index + 1}", same_conv(dims, features + index * growth, growth, 3))
        self.conv5 = same_conv(dims, features + 4 * growth, features, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus the scaled residual."""
        seen = [x]
        for index in range(4):
            conv = self.get_submodule(f"conv{index + 1}")
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), 0.2))
        return x + RESIDUAL_SCALE * self.conv5(torch.cat(seen, 1))


class ResidualInResidual(nn.Module):
    """Three dense blocks inside one more scaled residual."""

    def __init__(self, dims: int, features: int, growth: int):
        super().__init__()
        self.rdb1 = DenseBlock(dims, features, growth)
        self.rdb2 = DenseBlock(dims, features, growth)
        self.rdb3 = DenseBlock(dims, features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus the scaled residual."""
        return x + RESIDUAL_SCALE * self.rdb3(self.rdb2(self.rdb1(x)))


@dataclass(frozen=True, kw_only=True)
class RrdbOptions(Sizes):
    """Size of the network."""

    features: int = 64
    """Channels of the trunk."""
    blocks: int = 23
    """Blocks of three dense blocks."""
    growth: int = 32
    """Channels that every convolution of a dense block adds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = at_least_one(self, "features", "blocks", "growth")
        if len(set(self.scales)) > 1 or self.scales[0] not in {1, 2, 4}:
            problems.append(
                f"scale: rrdb has the scales 1, 2 and 4 along all axes alike, got {self.scale}; choose another "
                "architecture"
            )
        if problems:
            raise ConfigError(problems)


class RRDBNet(nn.Module):
    """The generator.

    Shapes: [b in_channels *cells] → [b out_channels *cells·scale]; range [0,1] in and (unclamped) out.
    Scales 1 and 2 fold the input by pixel unshuffle first, so its sides must divide by 4 and 2.
    """

    Options = RrdbOptions

    def __init__(self, options: RrdbOptions):
        super().__init__()
        o = self.options = options
        self.fold = 4 // o.scales[0]
        self.conv_first = same_conv(o.dims, o.in_channels * self.fold**o.dims, o.features, 3)
        self.body = nn.Sequential(
            *(ResidualInResidual(o.dims, o.features, o.growth) for _ in range(o.blocks))
        )
        self.conv_body = same_conv(o.dims, o.features, o.features, 3)
        self.conv_up1 = same_conv(o.dims, o.features, o.features, 3)
        self.conv_up2 = same_conv(o.dims, o.features, o.features, 3)
        self.conv_hr = same_conv(o.dims, o.features, o.features, 3)
        self.conv_last = same_conv(o.dims, o.features, o.makes, 3)

    @property
    def maps_per_cell(self) -> int:
        """Numbers of the largest feature map, for every input cell."""
        return self.options.features * prod(self.options.scales)

    @property
    def receptive_radius(self) -> int:
        """Input cells that a result depends on to each side, rounded up."""
        at_body = 1 + 15 * len(self.body) + 1 + 1  # first, body, conv_body, and the finer layers together
        return (at_body + 1) * self.fold

    def forward(self, image_01: Tensor) -> Tensor:
        """Enlarge a batch; the network runs in its weights' format."""
        x = image_01.to(self.conv_first.weight.dtype)
        dims = self.options.dims
        x = unshuffle(x, (self.fold,) * dims) if self.fold > 1 else x
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for conv in (self.conv_up1, self.conv_up2):
            x = F.leaky_relu(conv(enlarged(x, (2,) * dims)), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2)).to(image_01.dtype)
