"""PatchGAN with norms (Isola et al., arXiv 1611.07004, section 6.1.2), for any bands, pictures and volumes.

Tensor names and numbers agree with those of opensr-srgan 0.5.1. `patch` is the same idea at several scales, held by
spectral norm rather than by norms of the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from torch import Tensor, nn

from hypir_core.config import strict
from hypir_core.models.architectures.nd import BATCH_NORMS, CONVOLUTIONS, INSTANCE_NORMS

from ..config.checks import raise_all
from .judgement import SLOPE, Judgement, check_least, size_problems


class Norm(str, Enum):
    """What normalises the features of every layer but the first and the last."""

    instance = "instance"
    """Each image and channel for itself, without weights."""
    batch = "batch"
    """Each channel over the batch."""
    none = "none"
    """Nothing."""


@dataclass(frozen=True, kw_only=True)
class PatchGanOptions:
    """Size of the discriminator."""

    __pydantic_config__ = strict

    features: int = 64
    """Channels of the first layer; they double with every layer, up to eight times as many."""
    layers: int = 3
    """Layers that halve the size. A logit sees 34, 70 or 142 px for 2, 3 or 4 layers."""
    norm: Norm = Norm.instance
    """Of the layers between."""
    in_channels: int | None = None
    """Of the pictures that are judged; None: as many as the generator makes."""
    dims: int = 2
    """Spatial axes: 2 for pictures, 3 for volumes."""

    def __post_init__(self) -> None:
        raise_all(size_problems(self, "features", "layers"))


class PatchGanDiscriminator(nn.Module):
    """Convolutions of 4 cells; a map of logits.

    Shapes: [b in_channels *cells] → [b 1 *(cells/2^layers − 2)].
    """

    Options = PatchGanOptions

    def __init__(self, options: PatchGanOptions):
        super().__init__()
        self.model = _Layers(options)
        self.least_px = 3 * 2**options.layers

    @property
    def in_file(self) -> nn.Module:
        """What a weight file holds: all of it."""
        return self

    def forward(self, image_pm1: Tensor, *, with_features: bool = False) -> Judgement:
        """Judge a batch.

        Raises:
            ShapeError: a side is below ``3 · 2^layers`` cells.
        """
        check_least(image_pm1, self.least_px, name="patchgan", option="layers")
        x, features = image_pm1, []
        for layer in self.model.model:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                features.append(x)
        return Judgement([x], features if with_features else [])


class _Layers(nn.Module):
    """The layers in a row, under the names that files have."""

    def __init__(self, o: PatchGanOptions):
        super().__init__()
        conv = CONVOLUTIONS[o.dims]
        widths = [o.features * min(2**layer, 8) for layer in range(o.layers + 1)]
        layers: list[nn.Module] = [conv(o.in_channels or 3, widths[0], 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for number, (inside, outside) in enumerate(pairwise(widths), 1):
            stride = 2 if number < o.layers else 1
            layers += [
                conv(inside, outside, 4, stride, 1, bias=o.norm is Norm.instance),
                _norm(o, outside),
                nn.LeakyReLU(SLOPE),
            ]
        self.model = nn.Sequential(*layers, conv(widths[-1], 1, 4, 1, 1))


def _norm(o: PatchGanOptions, channels: int) -> nn.Module:
    if o.norm is Norm.none:
        return nn.Identity()
    return (BATCH_NORMS if o.norm is Norm.batch else INSTANCE_NORMS)[o.dims](channels)
