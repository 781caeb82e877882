"""Reading Qt's compiled resource files (`.rcc`), as far as pictures need it.

Layout, all numbers big-endian: "qres", version, then the offsets of tree, data and names. A tree node is an offset
into the names (length, hash, UTF-16 text) and flags (1 zlib, 2 folder, 4 zstd), then for a folder the count and the
index of its first child, for a file language, country and an offset into the data (size, bytes). From version 2 on,
nodes end with a time of 8 bytes. Source of the facts: the format that Qt documents for its `rcc` tool.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

ZLIB, FOLDER, ZSTD = 1, 2, 4


def members(rcc: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (path, content) of every file; those packed with zstd are left out.

    Raises:
        ValueError: the bytes are no resource file.
    """
    magic, version, tree, data, names = struct.unpack_from(">4sIIII", rcc)
    if magic != b"qres":
        raise ValueError("expected a Qt resource file, which begins with 'qres'")
    node_bytes = 14 if version < 2 else 22

    def name_of(offset: int) -> str:
        (length,) = struct.unpack_from(">H", rcc, names + offset)
        start = names + offset + 6
        return rcc[start : start + 2 * length].decode("utf-16-be")

    def walk(node: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        at = tree + node * node_bytes
        name_offset, flags = struct.unpack_from(">IH", rcc, at)
        path = f"{prefix}/{name_of(name_offset)}" if node else ""
        if flags & FOLDER:
            count, first = struct.unpack_from(">II", rcc, at + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
        elif not flags & ZSTD:
            (offset,) = struct.unpack_from(">I", rcc, at + 10)
            (size,) = struct.unpack_from(">I", rcc, data + offset)
            content = rcc[data + offset + 4 : data + offset + 4 + size]
            yield path, zlib.decompress(content[4:]) if flags & ZLIB else content

    yield from walk(0, "")
