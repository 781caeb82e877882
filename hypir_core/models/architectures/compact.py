"""`compact`: a plain convolutional upscaler that is quick on any machine.

The parameters are laid out as the single list ``body.0 … body.N`` that spandrel, and so ComfyUI's stock
"Load Upscale Model", recognises as "Compact" (the layout of Real-ESRGAN's video models, arXiv 2107.10833).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from ...errors import ConfigError
from .nd import enlarged, same_conv, shuffle
from .sizes import Sizes, at_least_one

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
        """Keep the signal's size through the body (He et al., arXiv 1502.01852, eq. 15) and start near the skip.

        With torch's default the signal shrinks by about 0.4 per layer, and a body without shortcuts does not
        learn for thousands of steps.
        """
        *body, tail = (layer for layer in self.body if isinstance(layer, (nn.Conv2d, nn.Conv3d)))
        for conv in body:
            nn.init.kaiming_normal_(conv.weight, a=PRELU_START)
        nn.init.normal_(tail.weight, std=0.1 / tail.weight[0].numel() ** 0.5)
        for conv in (*body, tail):
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    @property
    def maps_per_cell(self) -> int:
        """Numbers of the largest feature map, for every input cell."""
        o = self.options
        return max(o.features, 2 * o.makes * prod(o.scales))

    @property
    def receptive_radius(self) -> int:
        """Input cells that a result depends on to each side: one per convolution."""
        return sum(isinstance(layer, (nn.Conv2d, nn.Conv3d)) for layer in self.body)

    def forward(self, image_01: Tensor) -> Tensor:
        """Enlarge a batch; the body runs in its weights' format, the skip in the input's."""
        x = image_01.to(next(self.parameters()).dtype)
        for layer in self.body:
            x = layer(x)
        detail = shuffle(x, self.options.scales).to(image_01.dtype)
        return detail + enlarged(image_01, self.options.scales)
