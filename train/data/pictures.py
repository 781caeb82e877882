"""Decode pictures for training at the depth of their file, and say which of them do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from hypir_core.errors import ImageFileError
from hypir_core.files.decode import DECODE_ERRORS, decode
from hypir_core.files.header import Header, read_header
from hypir_core.files.metadata.reading import read_metadata

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


def read_rgb(file: Path | BinaryIO, name: str = "") -> Tensor:
    """Decode a picture to [3 h w], upright: uint8, uint16, or float32 in [0,1], as the file has it.

    Raises:
        ImageFileError: it cannot be decoded; begins with `name`, by default the path.
        MissingDependencyError: a deep picture without the extra ``cli``.
    """
    try:
        with _opened(file) as opened:
            if header := _deep_header(opened):
                return _read_deep(opened, header)
    except DECODE_ERRORS as err:
        raise ImageFileError(f"{name or file}: cannot be decoded ({err})") from err
    try:
        with Image.open(file) as image:
            pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except _CANNOT_DECODE as err:
        raise ImageFileError(f"{name or file}: cannot be decoded ({err})") from err
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_size(file: Path | BinaryIO) -> tuple[int, int]:
    """Return (width, height) of the upright picture, from its header alone.

    Raises:
        ImageFileError: it is no picture; says why, without a name.
    """
    try:
        with _opened(file) as opened:
            if header := _deep_header(opened):
                turned = (
                    header.format != "npy"
                    and read_metadata(opened, header.format).orientation in _TRANSPOSING
                )
                size = (header.width_px, header.height_px)
                return (size[1], size[0]) if turned else size
        with Image.open(file) as image:
            width, height = image.size
            # Pillow decodes a whole PNG to look for EXIF behind the pixels.
            known = image.format != "PNG" or "exif" in image.info
            turned = known and image.getexif().get(_ORIENTATION) in _TRANSPOSING
    except UnidentifiedImageError as err:
        raise ImageFileError("is not a picture") from err
    except _CANNOT_DECODE as err:
        raise ImageFileError(f"cannot be read ({err})") from err
    return (height, width) if turned else (width, height)


@contextmanager
def _opened(file: Path | BinaryIO) -> Iterator[BinaryIO]:
    """Open a path, or give an open file and put it back to its start."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            yield opened
    else:
        yield file
        file.seek(0)


def _deep_header(file: BinaryIO) -> Header | None:
    """Return the header of a picture of more than 8 bits per sample, or nothing."""
    try:
        header = read_header(file)
    except (ValueError, OverflowError):
        return None  # damaged: who decodes it says how
    return header if header and (header.bits > 8 or header.format == "npy") else None


def _read_deep(file: BinaryIO, header: Header) -> Tensor:
    found = decode(file, header, icc=None)
    orientation = (
        1 if found.is_upright or header.format == "npy" else read_metadata(file, header.format).orientation
    )
    pixels = found.pixels_hwc
    if orientation in _TRANSPOSING:
        pixels = pixels.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    colour = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, axis=2)
    return torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1)))
