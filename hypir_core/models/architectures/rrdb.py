"""`rrdb`: the ESRGAN generator (Wang et al., arXiv 1809.00219, figures 3 and 4).

Parameter names follow the RRDBNet layout of Real-ESRGAN (``conv_first``, ``body.N.rdbM.convK``, ``conv_body``,
``conv_up1``, ``conv_up2``, ``conv_hr``, ``conv_last``), which spandrel recognises.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError

RESIDUAL_SCALE = 0.2
"""Factor on every residual branch (section 3.1 of the paper)."""


class DenseBlock(nn.Module):
    """Five 3×3 convolutions, each seeing all earlier outputs. [b features h w] → the same."""

    def __init__(self, features: int, growth: int):
        super().__init__()
        for index in range(4):
            self.add_module(f"conv{index + 1}", nn.Conv2d(features + index * growth, growth, 3, padding=1))
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus the scaled residual."""
        seen = [x]
        for index in range(4):
            conv = self.get_submodule(f"conv{index + 1}")
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), 0.2))
        return x + RESIDUAL_SCALE * self.conv5(torch.cat(seen, 1))


class ResidualInResidual(nn.Module):
    """Three dense blocks inside one more scaled residual."""

    def __init__(self, features: int, growth: int):
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus the scaled residual."""
        return x + RESIDUAL_SCALE * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """The generator.

    Shapes: [b in_channels h w] → [b out_channels h·scale w·scale]; range [0,1] in and (unclamped) out.
    Scales 1 and 2 fold the input by pixel unshuffle first, so h and w must divide by 4 and 2.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        features: int = 64,
        blocks: int = 23,
        growth: int = 32,
        scale: int = 4,
    ):
        if scale not in {1, 2, 4}:
            raise ConfigError(f"scale: rrdb has the scales 1, 2 and 4, got {scale}")
        super().__init__()
        self.scale = scale
        self.fold = 4 // scale
        self.conv_first = nn.Conv2d(in_channels * self.fold**2, features, 3, padding=1)
        self.body = nn.Sequential(*(ResidualInResidual(features, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(features, features, 3, padding=1)
        self.conv_up1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv_up2 = nn.Conv2d(features, features, 3, padding=1)
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, out_channels, 3, padding=1)

    @property
    def receptive_radius(self) -> int:
        """Input pixels that one output cell sees to each side, rounded up."""
        at_body = 1 + 15 * len(self.body) + 1 + 1  # first, body, conv_body, and the finer layers together
        return (at_body + 1) * self.fold

    def forward(self, image_01: Tensor) -> Tensor:
        """Enlarge a batch; the network runs in its weights' format."""
        x = image_01.to(self.conv_first.weight.dtype)
        x = F.pixel_unshuffle(x, self.fold) if self.fold > 1 else x
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for conv in (self.conv_up1, self.conv_up2):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2)).to(image_01.dtype)
