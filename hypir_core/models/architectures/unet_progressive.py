"""`progressive_unet`: the U-Net with a resolution that grows while it learns.

Karras et al., arXiv 1710.10196, section 2: what a new resolution adds is faded in. Here it is faded in on the data, on
input and target alike, so the network itself is `unet`, and so are its weights.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError
from .unet import Unet, UnetOptions


class ProgressiveUnet(Unet):
    """A `Unet` that knows which resolution it learns at, and how far that is faded in."""

    def __init__(self, options: UnetOptions):
        super().__init__(options)
        self.resolution_px: int | None = None
        """Longer side of what it learns from; None: as it comes."""
        self.alpha = 1.0
        """0 to 1: how much of the detail that the last doubling added is let through."""

    def set_resolution(self, resolution_px: int | None, *, alpha: float = 1.0) -> None:
        """Say at which resolution training goes on, and how far it is faded in.

        Raises:
            ConfigError: a resolution below 1, or an alpha outside 0 … 1.
        """
        if (resolution_px is not None and resolution_px < 1) or not 0 <= alpha <= 1:
            raise ConfigError(
                f"a resolution is 1 px or more, and alpha lies in 0 … 1, got {resolution_px} and {alpha:g}"
            )
        self.resolution_px, self.alpha = resolution_px, alpha

    def at_resolution(self, *pictures: Tensor) -> tuple[Tensor, ...]:
        """Return input and target [b c h w], all alike: shrunk to the resolution, detail faded in.

        To be called on clean and measured pictures, before noise is added. Larger pictures are averaged, smaller ones
        left at their size. x becomes α·x + (1 − α)·up(down(x)), with means of 2×2 pixels, repeated.
        """
        return tuple(self._faded(self._shrunk(picture)) for picture in pictures)

    def _shrunk(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        longest = max(height, width)
        if self.resolution_px is None or longest <= self.resolution_px:
            return picture
        sides = [max(1, round(side * self.resolution_px / longest)) for side in (height, width)]
        return F.interpolate(picture, size=sides, mode="area")

    def _faded(self, picture: Tensor) -> Tensor:
        if self.alpha == 1:
            return picture
        sides = list(picture.shape[-2:])
        coarse = F.interpolate(picture, size=[-(-side // 2) for side in sides], mode="area")
        return self.alpha * picture + (1 - self.alpha) * F.interpolate(coarse, size=sides, mode="nearest")
