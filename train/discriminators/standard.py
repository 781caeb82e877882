"""SRGAN's discriminator: one logit for the whole image (Ledig et al., arXiv 1609.04802, figure 4).

Tensor names and numbers agree with those of opensr-srgan 0.5.1, spectral norm included: torch's older one, whose names
the files have and which updates its vectors in another order than the newer one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

from hypir_core.config import strict
from hypir_core.models.architectures.nd import BATCH_NORMS, CONVOLUTIONS, MEAN_POOLS

from ..config.checks import raise_all
from .judgement import SLOPE, Judgement, size_problems


@dataclass(frozen=True, kw_only=True)
class StandardOptions:
    """Size of the discriminator."""

    __pydantic_config__ = strict

    features: int = 64
    """Channels of the first block; they double with every second one."""
    blocks: int = 8
    """Convolutions; every second one halves the size."""
    pool_cells: int = 6
    """The last map is averaged to so many cells along every axis: any crop will do."""
    hidden: int = 1024
    """Numbers between the two last layers."""
    spectral_norm: bool = True
    """Bound the gain of every layer to 1 (Miyato et al., arXiv 1802.05957)."""
    in_channels: int | None = None
    """Of the pictures that are judged; None: as many as the generator makes."""
    dims: int = 2
    """Spatial axes: 2 for pictures, 3 for volumes."""

    def __post_init__(self) -> None:
        raise_all(size_problems(self, "features", "blocks", "pool_cells", "hidden"))


class StandardDiscriminator(nn.Module):
    """Convolutions of stride 1 and 2 in turn, batch norms but at the first, two linear layers.

    Shapes: [b in_channels *cells] of any size → [b 1].
    """

    Options = StandardOptions

    def __init__(self, options: StandardOptions):
        super().__init__()
        o = options
        widths = [o.features * 2 ** (number // 2) for number in range(o.blocks)]
        sizes = pairwise([o.in_channels or 3, *widths])
        self.conv_blocks = nn.Sequential(
            *(_Block(o, inside, outside, number) for number, (inside, outside) in enumerate(sizes))
        )
        self.adaptive_pool = MEAN_POOLS[o.dims](o.pool_cells)
        self.fc1 = _bounded(nn.Linear(widths[-1] * o.pool_cells**o.dims, o.hidden), o.spectral_norm)
        self.fc2 = _bounded(nn.Linear(o.hidden, 1), o.spectral_norm)

    @property
    def in_file(self) -> nn.Module:
        """What a weight file holds: all of it."""
        return self

    def forward(self, image_pm1: Tensor, *, with_features: bool = False) -> Judgement:
        """Judge a batch."""
        x, features = image_pm1, []
        for block in self.conv_blocks:
            x = block(x)
            features.append(x)
        hidden = F.leaky_relu(self.fc1(self.adaptive_pool(x).flatten(1)), SLOPE)
        return Judgement([self.fc2(hidden)], features if with_features else [])


class _Block(nn.Module):
    """Convolution, batch norm, leaky rectifier."""

    def __init__(self, o: StandardOptions, inside: int, outside: int, number: int):
        super().__init__()
        conv = CONVOLUTIONS[o.dims](inside, outside, 3, stride=1 + number % 2, padding=1)
        norm = [BATCH_NORMS[o.dims](outside)] if number else []
        self.conv_block = nn.Sequential(_bounded(conv, o.spectral_norm), *norm, nn.LeakyReLU(SLOPE))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_block(x)


def _bounded(layer: nn.Module, bounded: bool) -> nn.Module:
    return spectral_norm(layer) if bounded else layer
