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
from hypir_core.errors import ShapeError

from ..config.checks import at_least, raise_all
from .judgement import Judgement

SLOPE = 0.2
"""Of the leaky rectifiers."""


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

    def __post_init__(self) -> None:
        raise_all(
            at_least(self, 1, *(["in_channels"] if self.in_channels is not None else []), "features", "depth")
        )


class UNetDiscriminator(nn.Module):
    """Convolutions of stride 2 down, bilinear enlargement and convolutions up, shortcuts added in between.

    Shapes: [b in_channels h w], [-1,1], any size of at least 2^depth px → logits [b 1 h w].
    """

    Options = UNetOptions

    def __init__(self, options: UNetOptions):
        super().__init__()
        normed = spectral_norm if options.spectral_norm else _as_it_is
        widths = [options.features * 2**level for level in range(options.depth + 1)]
        steps = list(pairwise(widths))
        self.head = nn.Conv2d(options.in_channels or 3, options.features, 3, padding=1)
        self.down = nn.ModuleList(
            normed(nn.Conv2d(fine, coarse, 4, stride=2, padding=1, bias=False)) for fine, coarse in steps
        )
        self.up = nn.ModuleList(
            normed(nn.Conv2d(coarse, fine, 3, padding=1, bias=False)) for fine, coarse in reversed(steps)
        )
        self.body = nn.ModuleList(
            normed(nn.Conv2d(options.features, options.features, 3, padding=1, bias=False)) for _ in range(2)
        )
        self.tail = nn.Conv2d(options.features, 1, 3, padding=1)

    @property
    def in_file(self) -> nn.Module:
        """What a weight file holds: all of it."""
        return self

    def forward(self, image_pm1: Tensor, *, with_features: bool = False) -> Judgement:
        """Judge a batch.

        Raises:
            ShapeError: an image side is below 2^depth px.
        """
        least_px = 2 ** len(self.down)
        if min(image_pm1.shape[-2:]) < least_px:
            raise ShapeError(
                f"unet discriminator: expected at least {least_px} px a side, got "
                f"{tuple(image_pm1.shape[-2:])}; raise data.crop_px, or lower its option depth"
            )
        x = F.leaky_relu(self.head(image_pm1), SLOPE)
        shortcuts, features = [], []
        for down in self.down:
            shortcuts.append(x)
            x = F.leaky_relu(down(x), SLOPE)
            features.append(x)
        for up in self.up:
            shortcut = shortcuts.pop()
            x = F.interpolate(x, size=shortcut.shape[-2:], mode="bilinear", align_corners=False)
            x = F.leaky_relu(up(x), SLOPE) + shortcut
            features.append(x)
        for body in self.body:
            x = F.leaky_relu(body(x), SLOPE)
        return Judgement([self.tail(x)], features if with_features else [])


def _as_it_is(module: nn.Module) -> nn.Module:
    return module
