"""Walk the blocks of PNG, JPEG and WebP files without decoding a pixel.

Sources: PNG specification (third edition) section 5; JPEG, ITU-T T.81 annex B; WebP container, RFC 9649.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

_JPEG_START_OF_SCAN = 0xDA
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True, slots=True)
class Block:
    """One chunk or segment of a file."""

    name: bytes
    """PNG chunk type, WebP FourCC, or the one byte of a JPEG marker."""
    offset: int
    """Where its content starts in the file."""
    size: int
    """Bytes of content."""


def blocks(file: BinaryIO, container: str) -> Iterator[Block]:
    """Yield the blocks of a ``png``, ``jpg`` or ``webp`` file in file order; other formats have none.

    The walk ends quietly where the file is cut off or leaves the format: whoever needs a block that did not
    come has the path for the message. A JPEG is walked up to its first scan.
    """
    walk = _WALKS.get(container)
    return walk(file) if walk else iter(())


def content(file: BinaryIO, block: Block, *, most_bytes: int | None = None) -> bytes:
    """Read a block's content or its first `most_bytes`; shorter where the file is cut off."""
    wanted = block.size if most_bytes is None else min(block.size, most_bytes)
    there = max(0, file.seek(0, 2) - block.offset)
    file.seek(block.offset)
    return file.read(min(wanted, there))


def _png_chunks(file: BinaryIO) -> Iterator[Block]:
    offset = 8
    while len(head := _read_at(file, offset, 8)) == 8:
        block = Block(head[4:8], offset + 8, int.from_bytes(head[:4], "big"))
        yield block
        if block.name == b"IEND":
            return
        offset = block.offset + block.size + 4  # the CRC


def _jpeg_segments(file: BinaryIO) -> Iterator[Block]:
    offset = 2
    while len(head := _read_at(file, offset, 4)) == 4 and head[0] == 0xFF:
        marker = head[1]
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        if marker in _JPEG_STANDALONE:
            offset += 2
            continue
        size = int.from_bytes(head[2:4], "big") - 2
        if marker == _JPEG_START_OF_SCAN or size < 0:
            return
        yield Block(bytes([marker]), offset + 4, size)
        offset += 4 + size


def _webp_chunks(file: BinaryIO) -> Iterator[Block]:
    offset = 12
    while len(head := _read_at(file, offset, 8)) == 8:
        block = Block(head[:4], offset + 8, int.from_bytes(head[4:8], "little"))
        yield block
        offset = block.offset + block.size + (block.size & 1)


_WALKS: dict[str, Callable[[BinaryIO], Iterator[Block]]] = {
    "png": _png_chunks,
    "jpg": _jpeg_segments,
    "webp": _webp_chunks,
}


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
