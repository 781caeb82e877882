"""Decode pictures for training, and say which of them do not fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from hypir_core.errors import ImageFileError

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

_TRANSPOSING = frozenset({5, 6, 7, 8})
_ORIENTATION = 0x0112
_CANNOT_DECODE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Which sizes can be trained on."""

    least_px: int
    """Shortest side of a high-quality picture."""
    least_key: str = ""
    """The setting that asks for it, for messages."""
    exact: bool = False
    """Both sides must be `least_px`."""
    scale: int = 1
    """High-quality pixels per pixel of a given low-quality partner."""

    def problem(self, width: int, height: int) -> str:
        """Return why a picture of this size cannot be used, or nothing."""
        if self.exact and (width, height) != (self.least_px, self.least_px):
            return f"is {width}×{height} px, but data.crop=none needs exactly {self.least_px}×{self.least_px}"
        if min(width, height) < self.least_px:
            asked = f" ({self.least_key})" if self.least_key else ""
            return f"is {width}×{height} px, smaller than {self.least_px} px{asked}"
        return ""

    def pair_problem(self, width: int, height: int, lq_width: int, lq_height: int) -> str:
        """Return why a picture and its low-quality partner cannot be used together, or nothing."""
        if (width, height) == (lq_width * self.scale, lq_height * self.scale):
            return ""
        return (
            f"is {width}×{height} px and its low-quality partner {lq_width}×{lq_height} px; "
            f"expected {self.scale} times the partner"
        )


def read_rgb(file: Path | IO[bytes], name: str = "") -> Tensor:
    """Decode a picture to uint8 [3 h w], upright by its EXIF orientation.

    Raises:
        ImageFileError: it cannot be decoded; begins with `name`, by default the path.
    """
    try:
        with Image.open(file) as image:
            if problem := _depth_problem(image):
                raise ImageFileError(f"{name or file}: {problem}")
            upright = ImageOps.exif_transpose(image)
            pixels = np.array(_to_8_bit(upright).convert("RGB"))
    except _CANNOT_DECODE as err:
        raise ImageFileError(f"{name or file}: cannot be decoded ({err})") from err
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_size(file: Path | IO[bytes]) -> tuple[int, int]:
    """Return (width, height) of the upright picture, from its header alone.

    Raises:
        ImageFileError: it is no picture; says why, without a name.
    """
    try:
        with Image.open(file) as image:
            width, height = image.size
            if problem := _depth_problem(image):
                raise ImageFileError(problem)
            # Pillow decodes a whole PNG to look for EXIF behind the pixels.
            known = image.format != "PNG" or "exif" in image.info
            turned = known and image.getexif().get(_ORIENTATION) in _TRANSPOSING
    except UnidentifiedImageError as err:
        raise ImageFileError("is not a picture") from err
    except _CANNOT_DECODE as err:
        raise ImageFileError(f"cannot be read ({err})") from err
    return (height, width) if turned else (width, height)


def _depth_problem(image: Image.Image) -> str:
    """Refuse the pixels that Pillow would cut off at 255 and whose white is unknown."""
    unknown = image.mode == "F" or (image.mode == "I" and image.format != "PNG")
    return f"has pixels of mode {image.mode}; expected 8 or 16 bit" if unknown else ""


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, which Pillow's own conversion would cut off at 255."""
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
