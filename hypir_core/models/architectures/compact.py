"""`compact`: a plain convolutional upscaler that is quick on any machine.

The parameters are laid out as the single list ``body.0 … body.N`` that spandrel, and so ComfyUI's stock
"Load Upscale Model", recognises as "Compact" (the layout of Real-ESRGAN's video models, arXiv 2107.10833).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError

PRELU_START = 0.25
"""Slope that torch's PReLU starts with."""


class Compact(nn.Module):
    """Head convolution, `blocks` × (3×3 convolution, PReLU), tail convolution, pixel shuffle, plus a skip.

    Shapes: [b in_channels h w] → [b out_channels h·scale w·scale]; range [0,1] in and (unclamped) out.
    The skip is the input enlarged by nearest neighbour, so the body only learns the difference.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        features: int = 64,
        blocks: int = 16,
        scale: int = 4,
    ):
        if in_channels != out_channels:
            raise ConfigError(
                f"out_channels: compact adds its input to its result, so {in_channels} channels cannot become "
                f"{out_channels}; choose another architecture"
            )
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [nn.Conv2d(in_channels, features, 3, padding=1), nn.PReLU(features)]
        for _ in range(blocks):
            layers += [nn.Conv2d(features, features, 3, padding=1), nn.PReLU(features)]
        layers.append(nn.Conv2d(features, out_channels * scale**2, 3, padding=1))
        self.body = nn.ModuleList(layers)
        self._initialise()

    def _initialise(self) -> None:
        """Keep the signal's size through the body (He et al., arXiv 1502.01852, eq. 15) and start near the skip.

        With torch's default the signal shrinks by about 0.4 per layer, and a body without shortcuts does not
        learn for thousands of steps.
        """
        *body, tail = (layer for layer in self.body if isinstance(layer, nn.Conv2d))
        for conv in body:
            nn.init.kaiming_normal_(conv.weight, a=PRELU_START)
        nn.init.normal_(tail.weight, std=0.1 / tail.weight[0].numel() ** 0.5)
        for conv in (*body, tail):
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    @property
    def receptive_radius(self) -> int:
        """Input pixels that one output cell sees to each side: one per 3×3 convolution."""
        return sum(isinstance(layer, nn.Conv2d) for layer in self.body)

    def forward(self, image_01: Tensor) -> Tensor:
        """Enlarge a batch; the body runs in its weights' format, the skip in the input's."""
        x = image_01.to(next(self.parameters()).dtype)
        for layer in self.body:
            x = layer(x)
        detail = F.pixel_shuffle(x, self.scale).to(image_01.dtype)
        return detail + F.interpolate(image_01, scale_factor=self.scale, mode="nearest")
