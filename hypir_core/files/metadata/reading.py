"""What a picture file carries besides pixels: ICC profile, EXIF block, text."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from ...errors import ConfigError
from . import exif as exif_block
from .containers import blocks, content
from .tiff_tags import in_file, read_directory, read_layout, value_of

_log = logging.getLogger(__name__)

_TIFF_ICC = 34675
_MOST_INFLATED_BYTES = 32 * 2**20
"""More than this in one compressed PNG chunk is an attack, not a profile."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """ICC profile and EXIF block of a file, and the orientation its pixels are stored in."""

    icc: bytes | None = None
    exif: bytes | None = None
    """TIFF structure without the JPEG prefix, its orientation already set to 1."""
    orientation: int = 1
    """EXIF orientation 1 to 8 of the stored pixels."""


def read_metadata(file: BinaryIO, container: str) -> Metadata:
    """Read profile, EXIF and orientation of an open file of the format `container`.

    A block that is damaged is left out with a warning in the log.

    Raises:
        ValueError: a TIFF's main directory cannot be read.
    """
    if container == "tiff":
        orientation, exif = exif_block.from_tiff(file)
        return Metadata(_tiff_icc(file), exif, orientation)
    icc, raw_exif = None, None
    if container == "png":
        icc, raw_exif = _png_icc(file), _first(file, "png", b"eXIf")
    elif container == "webp":
        icc, raw_exif = _first(file, "webp", b"ICCP"), _first(file, "webp", b"EXIF")
    elif container == "jpg":
        icc, raw_exif = _jpeg_icc(file), _jpeg_exif(file)
    orientation, exif = exif_block.checked(raw_exif)
    return Metadata(icc, exif, orientation)


def read_text_of(file: BinaryIO, container: str) -> dict[str, str]:
    """Return the text in an open file: every PNG text chunk, or what EXIF UserComment holds."""
    if container == "png":
        return dict(_png_text(file))
    if container == "npy":
        return {}
    return exif_block.text_in(read_metadata(file, container).exif)


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Frame `data` as a PNG chunk: length, type, content, CRC."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_icc_data(icc: bytes) -> bytes:
    """Return the content of the iCCP chunk that carries `icc`."""
    return b"ICC Profile\0\0" + zlib.compress(icc)


def png_text_data(text: Mapping[str, str]) -> list[bytes]:
    """Return the content of one uncompressed iTXt chunk (UTF-8) per item.

    Raises:
        ConfigError: a key is not 1 to 79 Latin-1 characters without a NUL or outer blanks.
    """
    chunks = []
    for key, words in text.items():
        name = key.encode("latin-1", errors="ignore")
        if len(name) != len(key) or not 1 <= len(name) <= 79 or "\0" in key or key != key.strip():
            raise ConfigError(f"a PNG text key must be 1 to 79 Latin-1 characters, got {key!r}")
        chunks.append(name + b"\0\0\0\0\0" + words.encode("utf-8"))
    return chunks


def _first(file: BinaryIO, container: str, name: bytes) -> bytes | None:
    found = next((block for block in blocks(file, container) if block.name == name), None)
    return content(file, found) if found else None


def _png_icc(file: BinaryIO) -> bytes | None:
    data = _first(file, "png", b"iCCP")
    if data is None:
        return None
    _, _, rest = data.partition(b"\0")
    try:
        return _inflate(rest[1:])
    except (zlib.error, ValueError) as err:
        _log.warning("ICC profile dropped, it cannot be unpacked: %s", err)
        return None


def _png_text(file: BinaryIO) -> Iterator[tuple[str, str]]:
    for block in blocks(file, "png"):
        if block.name not in (b"tEXt", b"zTXt", b"iTXt"):
            continue
        key, _, rest = content(file, block).partition(b"\0")
        try:
            if block.name == b"tEXt":
                words = rest.decode("latin-1")
            elif block.name == b"zTXt":
                words = _inflate(rest[1:]).decode("latin-1")
            else:
                _, _, packed = rest[2:].partition(b"\0")
                _, _, packed = packed.partition(b"\0")
                words = (_inflate(packed) if rest[:1] == b"\1" else packed).decode("utf-8")
        except (zlib.error, ValueError) as err:
            _log.warning("PNG text %r skipped, it cannot be unpacked: %s", key, err)
            continue
        yield key.decode("latin-1"), words


def _jpeg_exif(file: BinaryIO) -> bytes | None:
    for block in blocks(file, "jpg"):
        if block.name == b"\xe1" and content(file, block, most_bytes=6) == b"Exif\0\0":
            return content(file, block)
    return None


def _jpeg_icc(file: BinaryIO) -> bytes | None:
    """Join the numbered ICC segments (ICC.1:2022 annex B.4: mark, number, count, part of the profile)."""
    mark = b"ICC_PROFILE\0"
    parts: dict[int, bytes] = {}
    count = 0
    for block in blocks(file, "jpg"):
        if block.name == b"\xe2" and content(file, block, most_bytes=12) == mark:
            data = content(file, block)
            if len(data) < 14:
                continue
            parts[data[12]], count = data[14:], data[13]
    if not parts:
        return None
    if sorted(parts) != list(range(1, count + 1)):
        _log.warning("ICC profile dropped: parts %s of %d are there", sorted(parts), count)
        return None
    return b"".join(parts[number] for number in sorted(parts))


def _tiff_icc(file: BinaryIO) -> bytes | None:
    read_at = in_file(file)
    layout, start = read_layout(read_at)
    main, _ = read_directory(read_at, layout, start)
    try:
        return value_of(read_at, layout, main[_TIFF_ICC]) if _TIFF_ICC in main else None
    except ValueError as err:
        _log.warning("ICC profile dropped, it cannot be read: %s", err)
        return None


def _inflate(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(data, _MOST_INFLATED_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {_MOST_INFLATED_BYTES} bytes")
    return unpacked
