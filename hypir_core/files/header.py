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

from .boxes import avif_facts, jp2_facts
from .formats import HEAD_BYTES, recognise
from .metadata.containers import blocks, content
from .netpbm import netpbm_header
from .tiff_pages import TiffPages, tiff_pages

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Header:
    """Facts from the first bytes."""

    format: str
    width_px: int
    height_px: int
    bits: int = 8
    """Bits per sample; the largest, where samples differ."""
    tiff: TiffPages | None = None
    """Of a TIFF: its pages."""


def read_header(file: BinaryIO) -> Header | None:
    """Read the header of an open file; None where the content is no picture format that can be read.

    Raises:
        ValueError: the format is known but its header is cut off or contradicts itself.
    """
    file.seek(0)
    name = recognise(file.read(HEAD_BYTES))
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
    end = file.seek(0, 2)
    file.seek(4)
    if int.from_bytes(file.read(4), "little") + 8 > end:
        raise ValueError("it is truncated: its size is larger than the file")
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
    found = tiff_pages(file)
    page = found.pages[0]
    return Header("tiff", page.width_px, page.height_px, page.bits, tiff=found)


def _gif(file: BinaryIO) -> Header:
    file.seek(6)
    data = file.read(4)
    if len(data) < 4:
        raise ValueError("its header is cut off")
    return Header("gif", *struct.unpack("<HH", data))


def _tga(file: BinaryIO) -> Header:
    file.seek(12)
    return Header("tga", *struct.unpack("<HH", file.read(4)))


def _avif(file: BinaryIO) -> Header:
    facts = avif_facts(file)
    return Header("avif", facts.width_px, facts.height_px, facts.bits)


def _jp2(file: BinaryIO) -> Header:
    facts = jp2_facts(file)
    return Header("jp2", facts.width_px, facts.height_px, facts.bits)


def _ppm(file: BinaryIO) -> Header:
    found = netpbm_header(file)
    bits = 32 if found.kind in (b"Pf", b"PF") else 16 if found.white > 255 else 8
    return Header("ppm", found.width_px, found.height_px, bits)


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
    "gif": _gif,
    "tga": _tga,
    "avif": _avif,
    "jp2": _jp2,
    "ppm": _ppm,
}
