"""PNG chunks that carry something besides pixels: build them, unpack them.

Sources: PNG specification (third edition) section 11.3; ImageMagick's ``Raw profile type …`` text chunks (a name, a byte
count and the bytes in hexadecimal, each on a line of its own).
"""

from __future__ import annotations

import binascii
import logging
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from ...errors import ConfigError
from .carried import Density, Extras
from .containers import blocks, content
from .photoshop import iptc_resource

_log = logging.getLogger(__name__)

COLOR_CHUNKS = (b"cICP", b"cHRM", b"gAMA", b"sRGB")
XMP_KEY = "XML:com.adobe.xmp"
COMMENT_KEY = "Comment"
RAW_PROFILE = "Raw profile type "
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_MOST_INFLATED_BYTES = 32 * 2**20
"""More than this in one compressed chunk is an attack, not a profile."""


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Frame `data` as a PNG chunk: length, type, content, CRC."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_metadata(extras: Extras) -> bytes:
    """Return the chunks, in an order that the specification allows, that stand between IHDR and IDAT."""
    parts = [
        png_chunk(name, extras.color_chunks[name]) for name in COLOR_CHUNKS if name in extras.color_chunks
    ]
    if extras.icc is not None:
        parts.append(png_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(extras.icc)))
    if extras.density is not None:
        parts.append(png_chunk(b"pHYs", _physical(extras.density)))
    if extras.exif is not None:
        parts.append(png_chunk(b"eXIf", extras.exif))
    if extras.xmp is not None:
        parts.append(png_chunk(b"iTXt", XMP_KEY.encode() + b"\0\0\0\0\0" + extras.xmp))
    if extras.iptc is not None:
        parts.append(png_chunk(b"zTXt", _raw_profile("iptc", iptc_resource(extras.iptc))))
    return b"".join(parts)


def png_words(extras: Extras) -> bytes:
    """Return the chunks of text and comments; they may stand anywhere between IHDR and IEND.

    Raises:
        ConfigError: a text's key is not 1 to 79 Latin-1 characters without a NUL or outer blanks.
    """
    items = [*extras.text.items(), *((COMMENT_KEY, words) for words in extras.comments)]
    return b"".join(png_chunk(b"iTXt", _text_data(key, words)) for key, words in items)


def png_icc(file: BinaryIO) -> bytes | None:
    """Return the ICC profile of an open PNG; one that cannot be unpacked is left out with a warning."""
    data = next((content(file, block) for block in blocks(file, "png") if block.name == b"iCCP"), None)
    if data is None:
        return None
    _, _, rest = data.partition(b"\0")
    try:
        return _inflate(rest[1:])
    except (zlib.error, ValueError) as err:
        _log.warning("ICC profile dropped, it cannot be unpacked: %s", err)
        return None


def png_text(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """Yield key and words of every text chunk of an open PNG; a damaged one is left out with a warning."""
    for block in blocks(file, "png"):
        if block.name not in _TEXT_CHUNKS:
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


def png_density(data: bytes) -> Density | None:
    """Return what a pHYs chunk says; None where it is damaged or says zero."""
    if len(data) != 9:
        return None
    x, y, unit = struct.unpack(">IIB", data)
    if not x or not y:
        return None
    return Density.of_metre(x, y) if unit == 1 else Density.of_aspect(x, y)


def raw_profile_bytes(words: str) -> bytes | None:
    """Unpack the hexadecimal bytes of a ``Raw profile type …`` text, or None where they are damaged."""
    lines = words.split("\n")
    lines = lines[1:] if lines[:1] == [""] else lines
    try:
        count = int(lines[1])
        data = binascii.unhexlify("".join(lines[2:]).replace(" ", ""))
    except (IndexError, ValueError):  # binascii.Error is a ValueError
        return None
    return data if len(data) == count else None


def _raw_profile(name: str, data: bytes) -> bytes:
    digits = data.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    words = "\n".join(["", name, f"{len(data):8d}", *lines, ""])
    return f"{RAW_PROFILE}{name}".encode() + b"\0\0" + zlib.compress(words.encode())


def _physical(density: Density) -> bytes:
    if density.unit == "aspect":
        x, y = density.ratio()
        return struct.pack(">IIB", x, y, 0)
    x, y = (round(side * 100) for side in density.per("cm"))
    return struct.pack(">IIB", x, y, 1)


def _text_data(key: str, words: str) -> bytes:
    """Return the content of an uncompressed iTXt chunk (UTF-8)."""
    name = key.encode("latin-1", errors="ignore")
    if len(name) != len(key) or not 1 <= len(name) <= 79 or "\0" in key or key != key.strip():
        raise ConfigError(f"a PNG text key must be 1 to 79 Latin-1 characters, got {key!r}")
    return name + b"\0\0\0\0\0" + words.encode("utf-8")


def _inflate(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(data, _MOST_INFLATED_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {_MOST_INFLATED_BYTES} bytes")
    return unpacked
