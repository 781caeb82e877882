"""ESRGAN's discriminator: one logit for the whole image (Wang et al., arXiv 1809.00219, section 3.2).

Tensor names and numbers agree with those of opensr-srgan 0.5.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from hypir_core.config import strict
from hypir_core.models.architectures.nd import BATCH_NORMS, CONVOLUTIONS, MEAN_POOLS

from ..config.checks import at_least, raise_all
from .judgement import SLOPE, Judgement, size_problems

WIDENINGS = 5
"""Channels reach 2⁴ times the first."""


@dataclass(frozen=True, kw_only=True)
class EsrganOptions:
    """Size of the discriminator."""

    __pydantic_config__ = strict

    features: int = 64
    """Channels of the first layer; they double with every second one, to sixteen times as many."""
    hidden: int = 1024
    """Numbers between the two last layers."""
    spectral_norm: bool = True
    """Bound the gain of every layer to 1 (Miyato et al., arXiv 1802.05957)."""
    padding: int = 2
    """Zeros around the maps before a layer of stride 2."""
    in_channels: int | None = None
    """Of the pictures that are judged; None: as many as the generator makes."""
    dims: int = 2
    """Spatial axes: 2 for pictures, 3 for volumes."""

    def __post_init__(self) -> None:
        raise_all([*size_problems(self, "features", "hidden"), *at_least(self, 1, "padding")])


class EsrganDiscriminator(nn.Module):
    """One convolution, nine with batch norms, every second one of stride 2; a mean of the last map; two linear layers.

    Shapes: [b in_channels *cells] of any size → [b 1].
    """

    Options = EsrganOptions

    def __init__(self, options: EsrganOptions):
        super().__init__()
        o = options
        conv = CONVOLUTIONS[o.dims]
        layers: list[nn.Module] = [
            _bounded(conv(o.in_channels or 3, o.features, 3, padding=1), o),
            nn.LeakyReLU(SLOPE),
        ]
        for level in range(WIDENINGS):
            width = o.features * 2**level
            if level:
                layers.append(_block(conv(width // 2, width, 3, padding=1), o))
            layers.append(_block(conv(width, width, 4, stride=2, padding=o.padding), o))
        self.features = nn.Sequential(*layers)
        self.pool = MEAN_POOLS[o.dims](1)
        self.classifier = nn.Sequential(
            _bounded(nn.Linear(o.features * 2 ** (WIDENINGS - 1), o.hidden), o),
            nn.LeakyReLU(SLOPE),
            _bounded(nn.Linear(o.hidden, 1), o),
        )

    @property
    def in_file(self) -> nn.Module:
        """What a weight file holds: all of it."""
        return self

    def forward(self, image_pm1: Tensor, *, with_features: bool = False) -> Judgement:
        """Judge a batch."""
        first, *others = self.features
        x, features = first(image_pm1), []
        for layer in others:
            x = layer(x)
            features.append(x)
        logits = self.classifier(self.pool(x).flatten(1))
        return Judgement([logits], features if with_features else [])


def _block(conv: nn.Module, o: EsrganOptions) -> nn.Sequential:
    assert isinstance(conv, (nn.Conv2d, nn.Conv3d))
    return nn.Sequential(_bounded(conv, o), BATCH_NORMS[o.dims](conv.out_channels), nn.LeakyReLU(SLOPE))


def _bounded(layer: nn.Module, o: EsrganOptions) -> nn.Module:
    return spectral_norm(layer) if o.spectral_norm else layer
