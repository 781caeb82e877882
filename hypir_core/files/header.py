"""What a picture file says about itself before a pixel is decoded: format, size, depth.

The size is known, and can be refused, before any memory is taken for the picture. Pillow is not asked,
because its own limit is a global.
"""

from __future__ import annotations

import struct
import tokenize
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from .formats import recognise
from .metadata.containers import blocks, content
from .metadata.tiff_tags import in_file, integers_of, read_directory, read_layout

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC = 256, 257, 258, 262
_STRIP_TABLES = ((273, 279), (324, 325))
"""Offsets and byte counts of strips, and of tiles."""
CMYK_TIFF = 5
"""PhotometricInterpretation of separated (ink) colours."""


@dataclass(frozen=True, slots=True)
class Header:
    """Facts from the first bytes."""

    format: str
    width_px: int
    height_px: int
    bits: int = 8
    """Bits per sample; the largest, where samples differ."""
    photometric: int = -1
    """TIFF only."""


def read_header(file: BinaryIO) -> Header | None:
    """Read the header of an open file; None where the content is no picture format that can be read.

    Raises:
        ValueError: the format is known but its header is cut off or contradicts itself.
    """
    file.seek(0)
    name = recognise(file.read(32))
    return _READERS[name](file) if name else None


def _png(file: BinaryIO) -> Header:
    first = next(blocks(file, "png"), None)
    data = content(file, first) if first and first.name == b"IHDR" else b""
    if len(data) < 13:
        raise ValueError("it has no complete IHDR chunk")
    width_px, height_px, bits = struct.unpack(">IIB", data[:9])
    return Header("png", width_px, height_px, bits)


def _jpeg(file: BinaryIO) -> Header:
    for block in blocks(file, "jpg"):
        if block.name[0] in _JPEG_FRAMES:
            data = content(file, block)
            if len(data) < 6:
                break
            bits, height_px, width_px = struct.unpack(">BHH", data[:5])
            return Header("jpg", width_px, height_px, bits)
    raise ValueError("it has no complete frame header")


def _webp(file: BinaryIO) -> Header:
    first = next(blocks(file, "webp"), None)
    data = content(file, first, most_bytes=10) if first else b""
    name = first.name if first and len(data) >= 5 else b""
    if name == b"VP8X" and len(data) == 10:
        width_px, height_px = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (4, 7))
    elif name == b"VP8L":
        packed = int.from_bytes(data[1:5], "little")
        width_px, height_px = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    elif name == b"VP8 " and len(data) == 10:
        width_px, height_px = (side & 0x3FFF for side in struct.unpack("<HH", data[6:10]))
    else:
        raise ValueError("it has no complete VP8, VP8L or VP8X chunk")
    return Header("webp", width_px, height_px)


def _bmp(file: BinaryIO) -> Header:
    file.seek(14)
    data = file.read(12)
    if len(data) < 12:
        raise ValueError("its header is cut off")
    if int.from_bytes(data[:4], "little") == 12:
        width_px, height_px = struct.unpack("<HH", data[4:8])
    else:
        width_px, height_px = struct.unpack("<ii", data[4:12])
    return Header("bmp", width_px, abs(height_px))


def _tiff(file: BinaryIO) -> Header:
    read_at = in_file(file)
    layout, start = read_layout(read_at)
    main, _ = read_directory(read_at, layout, start)

    def numbers(tag: int, *default: int) -> tuple[int, ...]:
        found = integers_of(read_at, layout, main[tag]) if tag in main else default
        if not found and tag in main:
            raise ValueError(f"its tag {tag} is empty")
        return found

    width_px, height_px = numbers(_WIDTH, 0), numbers(_HEIGHT, 0)
    end = file.seek(0, 2)
    for offsets_tag, sizes_tag in _STRIP_TABLES:
        offsets, sizes = numbers(offsets_tag), numbers(sizes_tag)
        if sizes and (len(offsets) != len(sizes) or 0 in sizes):
            raise ValueError("its table of strips is damaged")
        if any(offset + size > end for offset, size in zip(offsets, sizes, strict=False)):
            raise ValueError("it is truncated: a strip of pixels lies behind the end of the file")
    bits = max(numbers(_BITS, 1))
    return Header("tiff", width_px[0], height_px[0], bits, numbers(_PHOTOMETRIC, 1)[0])


def _npy(file: BinaryIO) -> Header:
    array = read_npy_header(file)
    if len(array.shape) not in (2, 3):
        raise ValueError(f"expected an array [H W] or [H W C], got the shape {list(array.shape)}")
    return Header("npy", array.shape[1], array.shape[0], array.dtype.itemsize * 8)


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """The array that a npy file says it holds."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    data_offset: int


def read_npy_header(file: BinaryIO) -> NpyHeader:
    """Read the header of a npy file.

    Raises:
        ValueError: it is cut off, malformed, or of a version later than 2.0.
    """
    file.seek(0)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"expected npy version 1.0 or 2.0, got {version[0]}.{version[1]}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged header is first tried as one of Python 2
            shape, fortran_order, dtype = read(file)
    except (SyntaxError, tokenize.TokenError) as err:
        raise ValueError("its header is damaged") from err
    return NpyHeader(shape, fortran_order, dtype, file.tell())


_READERS: dict[str, Callable[[BinaryIO], Header]] = {
    "png": _png,
    "jpg": _jpeg,
    "webp": _webp,
    "tiff": _tiff,
    "bmp": _bmp,
    "npy": _npy,
}
