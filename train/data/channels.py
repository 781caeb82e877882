"""Pictures with the channels that the generator asks for: grey, colour, or bands."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .bands import read_bands, read_bands_size
from .levels import from_01, to_01
from .pictures import read_rgb, read_size

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, full range: what grey is made of."""


def read_channels(file: Path | BinaryIO, channels: int, name: str = "") -> Tensor:
    """Read a picture as [channels h w] at the depth of its file.

    3: colour; a grey picture gives three equal channels. 1: grey; a colour picture gives its luma. Any other
    number: a TIFF or npy file with exactly so many bands, nothing is made up or left out.

    Raises:
        ImageFileError: it cannot be decoded or has another number of bands; begins with `name`, by default the
            path.
    """
    if channels not in {1, 3}:
        return read_bands(file, channels, name)
    colour = read_rgb(file, name)
    return colour if channels == 3 else _grey(colour)


def read_channels_size(file: Path | BinaryIO, channels: int) -> tuple[int, int]:
    """Return (width, height) of the upright picture, from its header alone.

    Raises:
        ImageFileError: it is no picture or has another number of bands; says why, without a name.
    """
    return read_size(file) if channels in {1, 3} else read_bands_size(file, channels)


def _grey(colour: Tensor) -> Tensor:
    red, green, blue = colour
    if torch.equal(red, green) and torch.equal(green, blue):
        return colour[:1].contiguous()
    weights = torch.tensor(LUMA).view(3, 1, 1)
    return from_01((to_01(colour) * weights).sum(0, keepdim=True), colour.dtype)
