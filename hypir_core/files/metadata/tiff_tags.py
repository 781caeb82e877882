"""Directories of a TIFF structure (a TIFF file, or the EXIF block of another format): read, copy, append.

A change never moves what is already there: new values and new directories are appended and the pointers
turned to them, so that offsets inside vendor blocks (EXIF MakerNote) stay valid.

Sources: TIFF 6.0 section 2; BigTIFF (libtiff design note); Exif 2.32 section 4.6.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

ReadAt = Callable[[int, int], bytes]
"""``read_at(offset, size)`` returns exactly `size` bytes or raises ValueError."""

SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 3, 4, 5, 7, 16
_KIND_BYTES = {
    kind: size
    for size, kinds in ((1, (1, 2, 6, 7)), (2, (3, 8)), (4, (4, 9, 11, 13)), (8, (5, 10, 12, 16, 17, 18)))
    for kind in kinds
}
_INTEGER_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST_ENTRIES = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """How numbers and offsets are stored."""

    order: str
    """``<`` (II) or ``>`` (MM)."""
    big: bool = False
    """BigTIFF: 8-byte offsets."""

    @property
    def pointer(self) -> str:
        """Struct format of one offset."""
        return self.order + ("Q" if self.big else "I")

    @property
    def count(self) -> str:
        """Struct format of the number of entries of a directory."""
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        """Struct format of one entry: tag, kind, count, field."""
        return self.order + ("HHQ8s" if self.big else "HHI4s")

    @property
    def pointer_at(self) -> int:
        """Where the header keeps the offset of the first directory."""
        return 8 if self.big else 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a directory."""

    tag: int
    kind: int
    count: int
    field: bytes
    """The last 4 (BigTIFF: 8) bytes: the value where it fits, else its offset."""
    at: int = -1
    """Where `field` lies in the source; -1 for an entry that is not from a source."""


Directory = dict[int, Entry]


def in_bytes(data: bytes | bytearray) -> ReadAt:
    """Return a reader of `data`."""

    def read_at(offset: int, size: int) -> bytes:
        if offset < 0 or offset + size > len(data):
            raise ValueError(f"bytes {offset} to {offset + size} lie outside of {len(data)} bytes")
        return bytes(data[offset : offset + size])

    return read_at


def in_file(file: BinaryIO) -> ReadAt:
    """Return a reader of an open file; the file must not grow while the reader is used."""
    total = file.seek(0, 2)

    def read_at(offset: int, size: int) -> bytes:
        if offset < 0 or offset + size > total:
            raise ValueError(f"bytes {offset} to {offset + size} lie outside of the file's {total} bytes")
        file.seek(offset)
        return file.read(size)

    return read_at


def read_layout(read_at: ReadAt) -> tuple[Layout, int]:
    """Read the header: the layout and the offset of the first directory.

    Raises:
        ValueError: this is no TIFF header.
    """
    head = read_at(0, 4)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = int.from_bytes(head[2:4], "little" if order == "<" else "big")
    if order is None or version not in (42, 43):
        raise ValueError(f"no TIFF header: {head!r}")
    layout = Layout(order, big=version == 43)
    size = struct.calcsize(layout.pointer)
    return layout, struct.unpack(layout.pointer, read_at(layout.pointer_at, size))[0]


def read_directory(read_at: ReadAt, layout: Layout, offset: int) -> tuple[Directory, int]:
    """Read the directory at `offset`; return its entries by tag and the offset of the next one (0: none).

    Values are not read: an entry whose value lies outside the source does no harm until `value_of`.

    Raises:
        ValueError: the directory lies outside the source or claims an absurd number of entries.
    """
    count_bytes, entry_bytes = struct.calcsize(layout.count), struct.calcsize(layout.entry)
    count: int = struct.unpack(layout.count, read_at(offset, count_bytes))[0]
    if count > _MOST_ENTRIES:
        raise ValueError(f"a directory claims {count} entries")
    first = offset + count_bytes
    table = read_at(first, count * entry_bytes)
    field_bytes = struct.calcsize(layout.pointer)
    directory: Directory = {}
    for index, (tag, kind, number, field) in enumerate(struct.iter_unpack(layout.entry, table)):
        directory[tag] = Entry(tag, kind, number, field, first + (index + 1) * entry_bytes - field_bytes)
    (following,) = struct.unpack(layout.pointer, read_at(first + len(table), field_bytes))
    return directory, following


def value_of(read_at: ReadAt, layout: Layout, entry: Entry) -> bytes:
    """Return an entry's value in the layout's byte order.

    Raises:
        ValueError: the kind is unknown or the value lies outside the source.
    """
    if entry.kind not in _KIND_BYTES:
        raise ValueError(f"tag {entry.tag} is of unknown kind {entry.kind}")
    size = _KIND_BYTES[entry.kind] * entry.count
    if size <= len(entry.field):
        return entry.field[:size]
    return read_at(struct.unpack(layout.pointer, entry.field)[0], size)


def integers_of(read_at: ReadAt, layout: Layout, entry: Entry) -> tuple[int, ...]:
    """Return the value of an entry of unsigned integers.

    Raises:
        ValueError: it is of another kind, or lies outside the source.
    """
    if entry.kind not in _INTEGER_CODES:
        raise ValueError(f"tag {entry.tag} holds no unsigned integers (kind {entry.kind})")
    value = value_of(read_at, layout, entry)
    return struct.unpack(f"{layout.order}{entry.count}{_INTEGER_CODES[entry.kind]}", value)


def integer_of(read_at: ReadAt, layout: Layout, entry: Entry) -> int:
    """Return the value of an entry of one unsigned integer.

    Raises:
        ValueError: it holds another number of them, or is of another kind, or lies outside the source.
    """
    if entry.count != 1:
        raise ValueError(f"tag {entry.tag} holds {entry.count} values, expected 1")
    return integers_of(read_at, layout, entry)[0]


def extent_of(layout: Layout, entry: Entry) -> tuple[int, int]:
    """Return first and past-the-last offset of a value that lies outside its entry, or (0, 0)."""
    size = _KIND_BYTES.get(entry.kind, 1) * entry.count
    if size <= len(entry.field):
        return 0, 0
    start = struct.unpack(layout.pointer, entry.field)[0]
    return start, start + size


class Tail:
    """Bytes that grow behind a TIFF structure of `offset` bytes; every piece starts on an even offset."""

    def __init__(self, layout: Layout, offset: int):
        self.layout, self._offset = layout, offset
        self.data = bytearray()

    def put(self, piece: bytes) -> int:
        """Append `piece`; return its offset in the whole structure."""
        if (self._offset + len(self.data)) % 2:
            self.data += b"\0"
        position = self._offset + len(self.data)
        self.data += piece
        return position

    def entry(self, tag: int, kind: int, count: int, value: bytes) -> Entry:
        """Make an entry, appending its value unless it fits in the field."""
        field_bytes = struct.calcsize(self.layout.pointer)
        if len(value) <= field_bytes:
            return Entry(tag, kind, count, value.ljust(field_bytes, b"\0"))
        return Entry(tag, kind, count, struct.pack(self.layout.pointer, self.put(value)))

    def integer(self, tag: int, kind: int, number: int) -> Entry:
        """Make an entry that holds one integer of the kind SHORT or LONG."""
        return self.entry(tag, kind, 1, struct.pack(self.layout.order + _INTEGER_CODES[kind], number))

    def directory(self, entries: Mapping[int, Entry]) -> int:
        """Append a directory without a successor; return its offset."""
        packed = b"".join(
            struct.pack(self.layout.entry, entry.tag, entry.kind, entry.count, entry.field)
            for _, entry in sorted(entries.items())
        )
        count = struct.pack(self.layout.count, len(entries))
        return self.put(count + packed + struct.pack(self.layout.pointer, 0))

    def pointer(self, tag: int, entries: Mapping[int, Entry]) -> Entry:
        """Append a directory and make the entry of the directory above that points to it."""
        kind = 16 if self.layout.big else LONG
        return self.entry(tag, kind, 1, struct.pack(self.layout.pointer, self.directory(entries)))


def copied(
    read_at: ReadAt, layout: Layout, directory: Directory, tail: Tail, *, pointers: frozenset[int]
) -> Directory:
    """Copy a directory's values, and the directories that the tags in `pointers` lead to, into `tail`.

    Both structures have the same byte order. An entry whose value cannot be read is left out. The result's
    entries fit `tail`'s structure; the directory itself is not appended.
    """
    copies: Directory = {}
    for tag, entry in directory.items():
        try:
            value = value_of(read_at, layout, entry)
            if tag in pointers:
                below, _ = read_directory(read_at, layout, integer_of(read_at, layout, entry))
                lower = copied(read_at, layout, below, tail, pointers=pointers - {tag})
                copies[tag] = tail.pointer(tag, lower)
                continue
        except ValueError:
            continue
        copies[tag] = tail.entry(tag, entry.kind, entry.count, value)
    return copies
