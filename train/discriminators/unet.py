"""U-Net discriminator with spectral norm: a logit for every pixel.

Judging single pixels inside their surroundings is the idea of Schönfeld et al., arXiv 2002.12655; this shape,
with added shortcuts and no global logit, is that of Wang et al., arXiv 2107.10833, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from hypir_core.config import strict
from hypir_core.models.architectures.nd import CONVOLUTIONS

from ..config.checks import raise_all
from .judgement import SLOPE, Judgement, check_least, size_problems

LINEAR = {2: "bilinear", 3: "trilinear"}
"""How maps are enlarged, by the number of axes."""


@dataclass(frozen=True, kw_only=True)
class UNetOptions:
    """Size of the discriminator."""

    __pydantic_config__ = strict

    features: int = 64
    """Channels at full size; they double at every step down. 16 to 32 suit a CPU."""
    depth: int = 3
    """Steps down and up again."""
    spectral_norm: bool = True
    """Bound the gain of every convolution between the first and the last to 1 (Miyato et al., arXiv 1802.05957)."""
    in_channels: int | None = None
    """Of the pictures that are judged; None: as many as the generator makes."""

    dims: int = 2
    """Spatial axes: 2 for pictures, 3 for volumes."""

    def __post_init__(self) -> None:
        raise_all(size_problems(self, "features", "depth"))


class UNetDiscriminator(nn.Module):
    """Convolutions of stride 2 down, linear enlargement and convolutions up, shortcuts added in between.

    Shapes: [b in_channels *cells], [-1,1], any size of at least 2^depth → logits [b 1 *cells].
    """

    Options = UNetOptions

    def __init__(self, options: UNetOptions):
        super().__init__()
        conv = CONVOLUTIONS[options.dims]
        normed = spectral_norm if options.spectral_norm else _as_it_is
        widths = [options.features * 2**level for level in range(options.depth + 1)]
        steps = list(pairwise(widths))
        self.head = conv(options.in_channels or 3, options.features, 3, padding=1)
        self.down = nn.ModuleList(
            normed(conv(fine, coarse, 4, stride=2, padding=1, bias=False)) for fine, coarse in steps
        )
        self.up = nn.ModuleList(
            normed(conv(coarse, fine, 3, padding=1, bias=False)) for fine, coarse in reversed(steps)
        )
        self.body = nn.ModuleList(
            normed(conv(options.features, options.features, 3, padding=1, bias=False)) for _ in range(2)
        )
        self.tail = conv(options.features, 1, 3, padding=1)

    @property
    def in_file(self) -> nn.Module:
        """What a weight file holds: all of it."""
        return self

    def forward(self, image_pm1: Tensor, *, with_features: bool = False) -> Judgement:
        """Judge a batch.

        Raises:
            ShapeError: an image side is below 2^depth px.
        """
        check_least(image_pm1, 2 ** len(self.down), name="unet", option="option depth")
        mode = LINEAR[image_pm1.ndim - 2]
        x = F.leaky_relu(self.head(image_pm1), SLOPE)
        shortcuts, features = [], []
        for down in self.down:
            shortcuts.append(x)
            x = F.leaky_relu(down(x), SLOPE)
            features.append(x)
        for up in self.up:
            shortcut = shortcuts.pop()
            x = F.interpolate(x, size=shortcut.shape[2:], mode=mode, align_corners=False)
            x = F.leaky_relu(up(x), SLOPE) + shortcut
            features.append(x)
        for body in self.body:
            x = F.leaky_relu(body(x), SLOPE)
        return Judgement([self.tail(x)], features if with_features else [])


def _as_it_is(module: nn.Module) -> nn.Module:
    return module
