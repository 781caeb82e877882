"""Decode pictures for training at the depth of their file, and say which of them do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from hypir_core.errors import ImageFileError
from hypir_core.files.formats import HEAD_BYTES, recognise
from hypir_core.files.reading import read_picture_of, read_size_of

from .axes import Scale, scales_of


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Which sizes can be trained on."""

    least_px: int
    """Shortest side of a high-quality picture."""
    least_key: str = ""
    """The setting that asks for it, for messages."""
    exact: bool = False
    """Both sides must be `least_px`."""
    scale: Scale = 1
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
        down, across = scales_of(self.scale, 2)
        if (width, height) == (lq_width * across, lq_height * down):
            return ""
        return (
            f"is {width}×{height} px and its low-quality partner {lq_width}×{lq_height} px; "
            f"expected {self.scale} times the partner"
        )


def read_rgb(file: Path | BinaryIO, name: str = "") -> Tensor:
    """Decode a picture to [3 h w], upright: uint8, uint16, or float32 in [0,1], as the file has it.

    By the reader that restores pictures: CMYK goes through its profile to sRGB, other colours stay in the space of
    their file, transparency is left out, of several frames the first is taken. Grey gives three equal channels.

    Raises:
        ImageFileError: it cannot be decoded, or its end is missing; begins with `name`, by default the path.
        MissingDependencyError: a deep picture without the extra ``cli``.
    """
    shown = name or str(file)
    try:
        with _opened(file) as opened:
            picture = read_picture_of(opened, _NAME)
    except (ImageFileError, OSError, ValueError) as err:
        raise ImageFileError(f"{shown}: cannot be decoded ({_reason(err)})") from err
    if not picture.is_complete:
        raise ImageFileError(f"{shown}: cannot be decoded ({picture.notes[0]})")
    colour = picture.color_hwc
    if colour.shape[2] == 1:
        colour = colour.repeat(3, axis=2)
    return torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1)))


def read_size(file: Path | BinaryIO) -> tuple[int, int]:
    """Return (width, height) of the upright picture, from its header alone.

    Raises:
        ImageFileError: it is no picture, or none that can be trained on; says why, without a name.
    """
    try:
        with _opened(file) as opened:
            is_known = recognise(opened.read(HEAD_BYTES)) is not None
            height_px, width_px = read_size_of(opened, _NAME) if is_known else (0, 0)
    except (ImageFileError, OSError, ValueError) as err:
        raise ImageFileError(f"cannot be read ({_reason(err)})") from err
    if not is_known:
        raise ImageFileError("is not a picture")
    return width_px, height_px


_NAME = "-"
"""Stands for the file in messages of the reader; what is told begins with our own name for it."""


def _reason(err: Exception) -> str:
    return str(err).removeprefix(f"{_NAME}: ")


@contextmanager
def _opened(file: Path | BinaryIO) -> Iterator[BinaryIO]:
    """Open a path, or give an open file and put it back to its start."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            yield opened
    else:
        yield file
        file.seek(0)
