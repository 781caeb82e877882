"""`compact`: a plain convolutional upscaler that is quick on any machine.

The parameters are laid out as the single list ``body.0 … body.N`` that spandrel, and so ComfyUI's stock
"Load Upscale Model", recognises as "Compact" (the layout of Real-ESRGAN's video models, arXiv 2107.10833).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from .nd import enlarged, same_conv, shuffled
from .sizes import Sizes, at_least_one

NOISE = 0.3
"""Part of He's noise that is added to the identity."""

PRELU_START = 0.25
"""Slope that torch's PReLU starts with."""


@dataclass(frozen=True, kw_only=True)
class CompactOptions(Sizes):
    """Size of the network."""

    features: int = 64
    """Channels of every feature map."""
    blocks: int = 16
    """Convolutions between the first and the last."""

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = at_least_one(self, "features", "blocks")
        if self.makes != self.in_channels:
            problems.append(
                f"out_channels: compact adds its input to its result, so {self.in_channels} channels cannot become "
                f"{self.makes}; choose another architecture"
            )
        if problems:
            raise ConfigError(problems)


class Compact(nn.Module):
    """Head convolution, `blocks` × (3-cell convolution, PReLU), tail convolution, pixel shuffle, plus a skip.

    Shapes: [b in_channels *cells] → [b out_channels *cells·scale]; range [0,1] in and (unclamped) out.
    The skip is the input enlarged by nearest neighbour, so the body only learns the difference.
    """

    Options = CompactOptions

    def __init__(self, options: CompactOptions):
        super().__init__()
        o = self.options = options
        layers: list[nn.Module] = [same_conv(o.dims, o.in_channels, o.features, 3), nn.PReLU(o.features)]
        for _ in range(o.blocks):
            layers += [same_conv(o.dims, o.features, o.features, 3), nn.PReLU(o.features)]
        layers.append(same_conv(o.dims, o.features, o.makes * prod(o.scales), 3))
        self.body = nn.ModuleList(layers)
        self._initialise()

    def _initialise(self) -> None:
        """Start as linear interpolation, with features that pass through.

        The first features carry the input from layer to layer, with slope 1, and the last convolution makes of them what
        linear interpolation adds to the skip: nothing has to be learnt for a result without blocks. Every convolution
        of the body begins as the identity plus a little noise (He et al., arXiv 1502.01852, eq. 15), as if it had a
        shortcut. A plain body of that depth from noise alone takes thousands of steps to pass on what it sees.
        """
        o = self.options
        carried = min(o.in_channels, o.features)
        centre = (1,) * o.dims
        head, *body, tail = (layer for layer in self.body if isinstance(layer, (nn.Conv2d, nn.Conv3d)))
        with torch.no_grad():
            for conv in (head, *body):
                nn.init.kaiming_normal_(conv.weight, a=PRELU_START)
                if conv is not head:
                    conv.weight *= NOISE
                conv.weight[:carried] = 0
                for feature in range(carried if conv is head else o.features):
                    conv.weight[(feature, feature, *centre)] += 1
            for layer in self.body:
                if isinstance(layer, nn.PReLU):
                    layer.weight[:carried] = 1
            nn.init.normal_(tail.weight, std=0.1 / tail.weight[0].numel() ** 0.5)
            tail.weight[:, :carried] = 0
            taps = linear_beyond_nearest(o.scales)
            for channel in range(min(carried, o.makes)):
                tail.weight[channel * len(taps) : (channel + 1) * len(taps), channel] = taps
            for conv in (head, *body, tail):
                assert conv.bias is not None
                nn.init.zeros_(conv.bias)

    takes_kept = True
    """`forward` takes smaller factors than the network's."""

    @property
    def maps_per_cell(self) -> int:
        """Numbers of the largest feature map, for every input cell."""
        o = self.options
        return max(o.features, 2 * o.makes * prod(o.scales))

    @property
    def receptive_radius(self) -> int:
        """Input cells that a result depends on to each side: one per convolution."""
        return sum(isinstance(layer, (nn.Conv2d, nn.Conv3d)) for layer in self.body)

    def forward(self, image_01: Tensor, kept: Sequence[int] | None = None) -> Tensor:
        """Enlarge a batch; the body runs in its weights' format, the skip in the input's.

        Args:
            image_01: [b in_channels *cells] in [0,1].
            kept: smaller factors, which divide the network's: [b out_channels *cells·kept] comes out, the result's means
                over blocks, and the larger result is never made (`nd.shuffled`).
        """
        o = self.options
        x = image_01.to(next(self.parameters()).dtype)
        *body, tail = self.body
        for layer in body:
            x = layer(x)
        assert isinstance(tail, (nn.Conv2d, nn.Conv3d))
        made = shuffled(x, tail, o.scales, kept)
        return made.to(image_01.dtype) + enlarged(image_01, o.scales if kept is None else kept)


def linear_beyond_nearest(scales: Sequence[int]) -> Tensor:
    """Return the weights [∏scales 3 …] that make of a map what linear interpolation adds to nearest neighbours.

    One row for every place in a cell, in the order of `nd.shuffle`; cell centres lie on half numbers.
    """
    taps = torch.ones(1, *[1] * len(scales))
    for axis, scale in enumerate(scales):
        at = (torch.arange(scale) + 0.5) / scale - 0.5  # of a fine cell, in coarse cells from its own
        along = torch.stack((-at.clamp_max(0), 1 - at.abs(), at.clamp_min(0)), 1)
        shape = [1] * len(scales)
        shape[axis] = 3
        taps = (taps[:, None] * along.reshape(1, scale, *shape)).flatten(0, 1)
    taps[(slice(None), *[1] * len(scales))] -= 1
    return taps
