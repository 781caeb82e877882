"""A picture in memory, as its file holds it, and the planes made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .metadata.carried import Carried


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture as its file holds it, upright, at the file's own depth."""

    path: Path
    color_hwc: np.ndarray
    """[H W 1] grey or [H W 3] RGB; uint8, uint16 or float32 in [0,1]; encoded as the file has it (sRGB, or
    what `icc` says). Read with ``bands="any"``: [H W C], and floats as the file has them."""
    alpha_hw: np.ndarray | None
    """[H W], same dtype, not premultiplied; None where the file has no transparency."""
    icc: bytes | None
    """ICC profile that describes `color_hwc`; None means sRGB."""
    exif: bytes | None
    """EXIF block in TIFF structure, orientation 1."""
    format: str
    """Name of the file's format, a key of `FORMATS`."""
    source_mode: str
    """``L``, ``RGB``, ``P``, ``CMYK``, ``I;16``, ``RGBA;16``, ``F`` …: what the file held."""
    orientation: int = 1
    """EXIF orientation that the stored pixels had, 1 to 8; already applied."""
    carried: Carried = field(default_factory=Carried)
    """XMP, IPTC, comments, text, density …"""
    notes: tuple[str, ...] = ()
    """What reading lost or guessed, one sentence each: further pages, a missing end …"""
    is_complete: bool = True
    """False: the file's end is missing, and what it held is filled."""
    page: int = 0
    """Which of the file's pages or frames this is."""
    pages: int = 1
    """How many the file has."""

    @property
    def bits(self) -> int:
        """Bits per sample of the arrays: 8, 16, or 32 for float."""
        return self.color_hwc.dtype.itemsize * 8

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels, upright."""
        return self.color_hwc.shape[0], self.color_hwc.shape[1]


def to_planes(picture: Picture) -> tuple[Tensor, Tensor | None]:
    """Return colour [1 1|3 H W] and alpha [1 1 H W] (or None), float32 in [0,1], on the CPU.

    The result is the only memory taken.
    """
    alpha = None if picture.alpha_hw is None else _plane_01(picture.alpha_hw[..., None])
    return _plane_01(picture.color_hwc), alpha


def _plane_01(pixels_hwc: np.ndarray) -> Tensor:
    height_px, width_px, channels = pixels_hwc.shape
    plane = torch.empty((1, channels, height_px, width_px), dtype=torch.float32)
    white = 1.0 if pixels_hwc.dtype == np.float32 else float(np.iinfo(pixels_hwc.dtype).max)
    np.divide(pixels_hwc.transpose(2, 0, 1), np.float32(white), out=plane[0].numpy(), dtype=np.float32)
    return plane
