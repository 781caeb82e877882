"""PatchGAN: every logit judges one patch (Isola et al., arXiv 1611.07004, section 3.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from hypir_core.config import strict
from hypir_core.models.architectures.nd import CONVOLUTIONS, INSTANCE_NORMS

from ..config.checks import raise_all
from .judgement import SLOPE, Judgement, check_least, size_problems

POOLS = {2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True, kw_only=True)
class PatchOptions:
    """Size of the discriminator."""

    __pydantic_config__ = strict

    features: int = 64
    """Channels of the first layer; they double with every layer, up to eight times as many."""
    layers: int = 3
    """Layers that halve the size. A logit sees 34, 70 or 142 px for 2, 3 or 4 layers."""
    scales: int = 1
    """Copies that look at the image at full, half, quarter … size (Wang et al., arXiv 1711.11585)."""
    spectral_norm: bool = True
    """Bound every convolution's gain to 1 (Miyato et al., arXiv 1802.05957)."""
    instance_norm: bool = False
    """Normalise every layer but the first and the last."""
    in_channels: int | None = None
    """Of the pictures that are judged; None: as many as the generator makes."""

    dims: int = 2
    """Spatial axes: 2 for pictures, 3 for volumes."""

    def __post_init__(self) -> None:
        raise_all(size_problems(self, "features", "layers", "scales"))


class PatchDiscriminator(nn.Module):
    """One stack of convolutions per scale; one map of logits each.

    Shapes: [b in_channels *cells], [-1,1] → at scale s (1, 2, 4 …) about [b 1 *(cells/(s·2^layers)−2)].
    """

    Options = PatchOptions

    def __init__(self, options: PatchOptions):
        super().__init__()
        self.stacks = nn.ModuleList(_stack(options) for _ in range(options.scales))
        self.least_px = 3 * 2 ** (options.layers + options.scales - 1)

    @property
    def in_file(self) -> nn.Module:
        """What a weight file holds: all of it."""
        return self

    def forward(self, image_pm1: Tensor, *, with_features: bool = False) -> Judgement:
        """Judge a batch.

        Raises:
            ShapeError: an image side is below ``3 · 2^(layers + scales − 1)`` px.
        """
        check_least(image_pm1, self.least_px, name="patch", option="options layers and scales")
        pool = POOLS[image_pm1.ndim - 2]
        judgement = Judgement([], [])
        for number, stack in enumerate(self.stacks):
            x = image_pm1 if number == 0 else pool(image_pm1, 2**number)
            *layers, last = stack.children()
            for layer in layers:
                x = layer(x)
                if with_features:
                    judgement.features.append(x)
            judgement.logits.append(last(x))
        return judgement


def _stack(options: PatchOptions) -> nn.Sequential:
    widths = [options.features * min(2**layer, 8) for layer in range(options.layers + 1)]
    layers = [_layer(options.in_channels or 3, widths[0], 2, options, first=True)]
    for number, (inside, outside) in enumerate(pairwise(widths), 1):
        layers.append(_layer(inside, outside, 2 if number < options.layers else 1, options))
    return nn.Sequential(*layers, _conv(widths[-1], 1, 1, options))


def _layer(
    inside: int, outside: int, stride: int, options: PatchOptions, *, first: bool = False
) -> nn.Sequential:
    norm = [INSTANCE_NORMS[options.dims](outside, affine=True)] if options.instance_norm and not first else []
    return nn.Sequential(_conv(inside, outside, stride, options), *norm, nn.LeakyReLU(SLOPE))


def _conv(inside: int, outside: int, stride: int, options: PatchOptions) -> nn.Module:
    conv = CONVOLUTIONS[options.dims](inside, outside, 4, stride, 1)
    return spectral_norm(conv) if options.spectral_norm else conv
