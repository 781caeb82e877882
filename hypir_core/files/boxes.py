"""The boxes of AVIF and JPEG 2000 files: size, depth, profile, XMP, EXIF.

Sources: ISO/IEC 14496-12 (boxes), 23008-12 (ispe), AV1-ISOBMFF (av1C); JPEG 2000, ITU-T T.800 annexes A.5 and I.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_CODESTREAM = b"\xff\x4f\xff\x51"
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF_UUID = b"JpgTiffExif->JP2"
_MOST_META_BYTES = 2**22
_MOST_BOX_BYTES = 2**26


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Size and depth of a picture in boxes."""

    width_px: int
    height_px: int
    bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Jp2Blocks:
    """What a JPEG 2000 file carries besides its pixels."""

    icc: bytes | None = None
    xmp: bytes | None = None
    exif: bytes | None = None


def avif_facts(file: BinaryIO) -> Facts:
    """Return the facts of an open AVIF file: the largest of its items, the deepest of its codings.

    Raises:
        ValueError: it tells no size.
    """
    meta = next(
        (_content(file, at, size) for name, at, size in _boxes(file, 0, _end(file)) if name == b"meta"), b""
    )
    meta = meta[:_MOST_META_BYTES]
    sizes = [struct.unpack_from(">II", meta, at + 8) for at in _places(meta, b"ispe") if at + 16 <= len(meta)]
    if not sizes:
        raise ValueError("it tells no size (no ispe property)")
    bits = 8
    for at in _places(meta, b"av1C"):
        if at + 7 <= len(meta) and meta[at + 6] & 0x40:
            bits = max(bits, 12 if meta[at + 6] & 0x20 else 10)
    width_px, height_px = max(sizes, key=lambda size: size[0] * size[1])
    return Facts(width_px=width_px, height_px=height_px, bits=bits)


def jp2_facts(file: BinaryIO) -> Facts:
    """Return the facts of an open JPEG 2000 file or code stream, from its SIZ segment.

    Raises:
        ValueError: there is none, or it is cut off.
    """
    file.seek(0)
    start = 0
    if file.read(4) != _CODESTREAM:
        start = next((at for name, at, _ in _boxes(file, 0, _end(file)) if name == b"jp2c"), -1)
    if start < 0:
        raise ValueError("it holds no code stream")
    file.seek(start)
    head = file.read(44)
    if len(head) < 44 or head[:4] != _CODESTREAM:
        raise ValueError("its code stream is cut off")
    right, bottom, left, top = struct.unpack_from(">4I", head, 8)
    return Facts(width_px=right - left, height_px=bottom - top, bits=(head[42] & 0x7F) + 1)


def jp2_blocks(file: BinaryIO) -> Jp2Blocks:
    """Return what the boxes of an open JPEG 2000 file carry."""
    icc = xmp = exif = None
    end = _end(file)
    for name, at, size in _boxes(file, 0, end):
        if name == b"jp2h":
            for inner, place, length in _boxes(file, at, at + size):
                if inner == b"colr" and (data := _content(file, place, length))[:1] in (b"\2", b"\3"):
                    icc = icc or data[3:]
        elif name == b"uuid":
            data = _content(file, at, size)
            if data.startswith(_XMP_UUID):
                xmp = data[16:]
            elif data.startswith(_EXIF_UUID):
                exif = data[16:]
    return Jp2Blocks(icc=icc, xmp=xmp, exif=exif)


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset and size of the content of each box between two offsets."""
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        size, name = struct.unpack_from(">I4s", head)
        skip = 8
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
            skip = 16
        elif size == 0:
            size = end - at
        if size < skip or not name.strip().isalnum():
            return
        yield name, at + skip, min(size, end - at) - skip
        at += size


def _places(data: bytes, name: bytes) -> Iterator[int]:
    """Yield every offset of a box's name in `data`."""
    at = data.find(name)
    while at >= 0:
        yield at
        at = data.find(name, at + 4)


def _content(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(min(size, _MOST_BOX_BYTES))


def _end(file: BinaryIO) -> int:
    return file.seek(0, 2)
