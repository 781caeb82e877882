"""Read a picture file, or say in one line why it cannot be read."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import ImageFileError
from .decode import DECODE_ERRORS, Decoded, UnsupportedPictureError, decode
from .formats import READABLE, likeness
from .header import Header, read_header
from .metadata.reading import read_metadata, read_text_of
from .picture import Picture

MAX_PIXELS = 16384 * 16384
"""Largest picture that is read unless the caller says otherwise."""


def read_picture(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a PNG, JPEG, WebP, TIFF, BMP or npy file (float32 [H W], or [H W 1|2|3|4], in [0,1]).

    Args:
        path: the file; its content decides the format.
        max_pixels: larger pictures are refused from the header, before memory is taken for them.

    Raises:
        ImageFileError: missing, a folder, empty, not a picture, truncated or damaged, too large, of zero
            size, with NaN, infinite or out-of-range values, or not readable by this user.
        MissingDependencyError: a 16-bit PNG or a deep TIFF without the extra ``cli``.
    """
    path = Path(path)
    with _opened(path) as file:
        header = _checked_header(path, file, max_pixels)
        try:
            metadata = read_metadata(file, header.format)
            found = decode(file, header, icc=metadata.icc)
        except UnsupportedPictureError as err:
            raise ImageFileError(f"{path}: {_one_line(err)}") from err
        except DECODE_ERRORS as err:
            raise ImageFileError(_undecodable(path, header, err)) from err
    icc = None if found.is_converted else metadata.icc
    color_hwc, alpha_hw = _upright_planes(found, metadata.orientation)
    return Picture(
        path,
        color_hwc,
        alpha_hw,
        icc,
        metadata.exif,
        header.format,
        found.source_mode,
        metadata.orientation,
    )


def read_text(path: Path | str) -> dict[str, str]:
    """Return the text that `write_picture` put into a file (for PNG: all of its text chunks).

    Raises:
        ImageFileError: the file is missing, cannot be read or is no picture.
    """
    path = Path(path)
    with _opened(path) as file:
        header = _checked_header(path, file, max_pixels=None)
        try:
            return read_text_of(file, header.format)
        except (OSError, ValueError) as err:
            raise ImageFileError(_undecodable(path, header, err)) from err


def content_hash(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        ImageFileError: the file is missing or cannot be read.
    """
    path = Path(path)
    digest = hashlib.sha256()
    with _opened(path) as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def _opened(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise ImageFileError(f"{path}: expected a picture, got a folder; name a file in it")
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as err:
        raise ImageFileError(f"{path}: expected a picture, got no such file; check the path") from err
    except PermissionError as err:
        raise ImageFileError(
            f"{path}: expected a file that can be read, got: {err.strerror}; change its permissions"
        ) from err
    except (OSError, ValueError) as err:
        raise ImageFileError(f"{path}: expected a file that can be read, got: {err}; check the path") from err
    return file


def _checked_header(path: Path, file: BinaryIO, max_pixels: int | None) -> Header:
    head = file.read(32)
    if not head:
        raise ImageFileError(f"{path}: expected a picture, got an empty file; copy it again from its source")
    try:
        header = read_header(file)
    except (OSError, ValueError, OverflowError) as err:
        raise ImageFileError(
            f"{path}: expected a complete picture, but {_one_line(err)}; copy it again from its source"
        ) from err
    if header is None:
        raise ImageFileError(
            f"{path}: expected a picture ({READABLE}), got {likeness(head)}; check the file or convert it"
        )
    if header.width_px < 1 or header.height_px < 1:
        raise ImageFileError(
            f"{path}: expected at least 1×1 px, got {header.width_px}×{header.height_px}; the file is damaged"
        )
    if max_pixels is not None and header.width_px * header.height_px > max_pixels:
        side_px = math.isqrt(max_pixels)
        raise ImageFileError(
            f"{path}: expected at most {max_pixels} pixels (such as {side_px}×{side_px}), "
            f"got a file that claims {header.width_px}×{header.height_px}; shrink it or cut it into parts"
        )
    return header


def _undecodable(path: Path, header: Header, err: BaseException) -> str:
    if isinstance(err, MemoryError):
        return (
            f"{path}: expected memory for {header.width_px}×{header.height_px} px, got none; "
            "close other programs or shrink the picture"
        )
    return (
        f"{path}: expected a complete {header.format}, got a damaged one ({_one_line(err)}); "
        "copy it again from its source"
    )


def _one_line(err: BaseException) -> str:
    return " ".join(str(err).split()) or type(err).__name__


def _upright_planes(found: Decoded, orientation: int) -> tuple[np.ndarray, np.ndarray | None]:
    pixels_hwc = found.pixels_hwc if found.is_upright else _turned(found.pixels_hwc, orientation)
    colors = 3 if pixels_hwc.shape[2] >= 3 else 1
    color_hwc = np.ascontiguousarray(pixels_hwc[..., :colors])
    alpha_hw = np.ascontiguousarray(pixels_hwc[..., colors]) if pixels_hwc.shape[2] > colors else None
    return color_hwc, alpha_hw


def _turned(pixels_hwc: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels upright (Exif 2.32 section 4.6.4: where row 0 and column 0 of the file belong)."""
    if orientation >= 5:  # row 0 is a vertical side
        pixels_hwc = pixels_hwc.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):  # the last row comes first
        pixels_hwc = pixels_hwc[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_hwc = pixels_hwc[:, ::-1]
    return pixels_hwc
