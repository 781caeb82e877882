"""Networks whose answers are known, as engines of pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hypir_core.engines.pixel.engine import Pixel
from hypir_core.engines.pixel.load import make_pixel
from hypir_core.engines.pixel.network import PixelFile
from hypir_core.engines.pixel.options import PixelOptions
from hypir_core.image.ranges import RangeConfig, RangeKind
from hypir_core.weights.pixel_spec import PixelSpec
from hypir_core.weights.prediction import Prediction

WHITE = RangeConfig(kind=RangeKind.white, white=50.0, symmetric=True)
"""50 electrons become 1, none -1."""


class Known(nn.Module):
    """Reads the picture off the condition, whatever the noise: perfect where nothing is blurred or noisy."""

    receptive_radius, fold, maps_per_cell = 0, 1, 1

    def __init__(self, kind: Prediction, a_bars: Tensor):
        super().__init__()
        self.kind, self.a_bars = kind, a_bars

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Return the prediction for x0, eps or v."""
        noised, even, light = x.double().chunk(3, 1)
        peak = 10 ** (light + 1)
        electrons = ((even + 1) / 2).square() * (peak + 3 / 8) - 3 / 8
        x0 = 2 * electrons / peak - 1
        place = float(t)
        below = int(place)
        sigmas = ((1 - self.a_bars[below : below + 2]) / self.a_bars[below : below + 2]).sqrt()
        a = 1 / (1 + float(torch.lerp(sigmas[0], sigmas[-1], place - below)) ** 2)
        eps = (noised - a**0.5 * x0) / (1 - a) ** 0.5
        made = {
            Prediction.x0: x0,
            Prediction.eps: eps,
            Prediction.v: a**0.5 * eps - (1 - a) ** 0.5 * x0,
            Prediction.difference: noised - x0,
        }
        return made[self.kind].to(x.dtype)


class Local(nn.Module):
    """One convolution: what it sees is 2 pixels around, so tiles must not show."""

    receptive_radius, fold, maps_per_cell = 2, 1, 1

    def __init__(self, channels: int = 3):
        super().__init__()
        torch.manual_seed(1)  # before the layer, which draws its bias
        self.conv = nn.Conv2d(channels, 1, 5, padding=2)
        nn.init.normal_(self.conv.weight, std=0.1)

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Return the prediction."""
        return torch.tanh(self.conv(x)) * (0.5 + float(t) / 2000)


class Same(nn.Module):
    """Takes what it is given for the answer."""

    receptive_radius, fold, maps_per_cell = 0, 1, 1

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Return the noised picture."""
        return x[:, :1]


def spec(**more) -> PixelSpec:
    """Return the spec of a network of one channel."""
    fields = {
        "name": "test",
        "prediction": Prediction.x0,
        "schedule_options": {"num_timesteps": 100},
        "value_range": WHITE,
        "camera": {"offset_adu": 100.0, "gain": 200.0},
        "trained_on": "nothing",
        "trained_with": "a test",
        "licence": "CC0",
    }
    return PixelSpec(**{**fields, **more})


def engine(net: nn.Module, of: PixelSpec | None = None, **options) -> Pixel:
    """Return the engine of a network."""
    file = PixelFile(spec=of or spec(), net=net)
    return make_pixel(file, PixelOptions(weights="test", **options), label="test", dtype=torch.float32)


def written(electrons: Tensor) -> Tensor:
    """Return a picture in [0,1] as the camera of `spec` writes it, not rounded."""
    return (100 + 200 * electrons) / 65535


def scene(height: int, width: int, peak: float = 45.0) -> Tensor:
    """Return light in electrons [1 1 h w]: spots on a slope, none of it below 1."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    spots = torch.cos(x / 3.0).clamp(min=0) * torch.sin(1 + y / 4.0).clamp(min=0)
    light = 1 + (peak - 1) * (0.7 * spots + 0.3 * x / max(1, width - 1))
    return light[None, None].float()
