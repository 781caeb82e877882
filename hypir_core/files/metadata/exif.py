"""EXIF blocks: what a restored picture keeps of them, and the text that travels in the user comment.

A block is handled as bytes in TIFF structure, without the six bytes that JPEG puts in front. Pixels are
always turned upright on reading, so a block that leaves this module says orientation 1. Everything else is
kept byte for byte, vendor notes included, but for what would be untrue of the new picture: the stored pixel
size is updated and the thumbnail (a small copy of the old picture) is taken out.

Source: Exif 2.32 (CIPA DC-008-2019), sections 4.5.4 and 4.6.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Mapping
from typing import BinaryIO

from .carried import Density
from .tiff_tags import (
    LONG,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Directory,
    Entry,
    Layout,
    ReadAt,
    Tail,
    copied,
    extent_of,
    in_bytes,
    in_file,
    integer_of,
    read_directory,
    read_layout,
    value_of,
)

_log = logging.getLogger(__name__)

ORIENTATION = 0x0112
EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY = 0x8769, 0x8825, 0xA005
_POINTERS = frozenset({EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY})
_USER_COMMENT = 0x9286
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_THUMBNAIL_OFFSET, _THUMBNAIL_BYTES = 0x0201, 0x0202
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_RESOLUTION = frozenset({_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT})
_DESCRIPTIVE = frozenset(
    {270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)} | _RESOLUTION | _POINTERS
)
"""Tags of a TIFF file's main directory that describe the photograph; the rest describe how pixels lie."""

_DESCRIPTION = 270
_EMPTY = b"II*\0\x08\0\0\0\0\0\0\0\0\0"
_KEPT_COMMENT = "UserComment"
_OUR_KEYS = "hypir."
"""Every key of a text that this project writes begins so."""


def checked(exif: bytes | None) -> tuple[int, bytes | None]:
    """Return the orientation (1 to 8) that a block asks for, and the block with its orientation set to 1.

    A block that cannot be parsed is dropped with a warning in the log: the photograph is still readable.
    """
    if not exif:
        return 1, None
    exif = exif.removeprefix(b"Exif\0\0")
    read_at = in_bytes(exif)
    try:
        layout, start = read_layout(read_at)
        main, _ = read_directory(read_at, layout, start)
        _below(read_at, layout, main, EXIF_DIRECTORY)
        entry = main.get(ORIENTATION)
        if entry is None or entry.kind not in (SHORT, LONG):
            return 1, exif
        orientation = integer_of(read_at, layout, entry)
    except ValueError as err:
        _log.warning("EXIF dropped, it cannot be parsed: %s", err)
        return 1, None
    upright = struct.pack(layout.order + ("H" if entry.kind == SHORT else "I"), 1)
    exif = exif[: entry.at] + upright + exif[entry.at + len(upright) :]
    return orientation if orientation in range(1, 9) else 1, exif


def for_output(
    exif: bytes | None,
    *,
    width_px: int,
    height_px: int,
    text: Mapping[str, str] | None = None,
    density: Density | None = None,
) -> bytes | None:
    """Return the block to write with a picture of the given size, or None where there is nothing to say.

    Args:
        exif: the source's block, as `checked` returned it.
        width_px: width of the new picture; replaces PixelXDimension where the block has one.
        height_px: likewise for PixelYDimension.
        text: goes into UserComment as one JSON object, beside what was there: other programs' words under their
            keys, a comment of another kind under ``UserComment``. Our words of an earlier run are taken out.
        density: said by the block unless it already says one.
    """
    if exif is None and not text and density is None:
        return None
    read_at = in_bytes(exif or _EMPTY)
    layout, start = read_layout(read_at)
    main, thumbnail = read_directory(read_at, layout, start)
    photo = _below(read_at, layout, main, EXIF_DIRECTORY)
    earlier = text_in(exif)
    blob = bytearray(_without_thumbnail(exif or _EMPTY, layout, start, thumbnail))
    tail = Tail(layout, len(blob))
    for tag, side_px in ((_PIXEL_WIDTH, width_px), (_PIXEL_HEIGHT, height_px)):
        if tag in photo:
            photo[tag] = tail.integer(tag, LONG, side_px)
    words = {**words_of_others(earlier), **(text or {})}
    if not words and earlier:
        photo.pop(_USER_COMMENT, None)
    elif words != earlier:
        comment = b"ASCII\0\0\0" + json.dumps(words).encode("ascii")
        photo[_USER_COMMENT] = tail.entry(_USER_COMMENT, UNDEFINED, len(comment), comment)
    if density is not None and not _RESOLUTION & main.keys():
        for tag, rational in zip((_X_RESOLUTION, _Y_RESOLUTION), density.rationals(), strict=True):
            main[tag] = tail.entry(tag, RATIONAL, 1, struct.pack(layout.order + "II", *rational))
        main[_RESOLUTION_UNIT] = tail.integer(_RESOLUTION_UNIT, SHORT, density.tiff_unit)
    if photo:
        main[EXIF_DIRECTORY] = tail.pointer(EXIF_DIRECTORY, photo)
    start = tail.directory(main)
    blob += tail.data
    struct.pack_into(layout.pointer, blob, layout.pointer_at, start)
    return bytes(blob)


def words_of_others(text: Mapping[str, str]) -> dict[str, str]:
    """Return the words that other programs wrote: ours tell of the picture that was read, not of the new one."""
    return {key: words for key, words in text.items() if not key.startswith(_OUR_KEYS)}


def text_in(exif: bytes | None) -> dict[str, str]:
    """Return the text that `for_output` put into a block.

    A user comment of other origin comes back under the key ``UserComment``; none, or a blank one, as {}.
    """
    if not exif:
        return {}
    read_at = in_bytes(exif.removeprefix(b"Exif\0\0"))
    try:
        layout, start = read_layout(read_at)
        main, _ = read_directory(read_at, layout, start)
        entry = _below(read_at, layout, main, EXIF_DIRECTORY).get(_USER_COMMENT)
        comment = value_of(read_at, layout, entry) if entry else b""
    except ValueError:
        return {}
    words = _comment_text(comment, layout)
    if not words:
        return {}
    try:
        found = json.loads(words)
    except json.JSONDecodeError:
        return {_KEPT_COMMENT: words}
    if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
        return found
    return {_KEPT_COMMENT: words}


def from_tiff(read_at: ReadAt, layout: Layout, main: Directory, page: Directory) -> tuple[int, bytes | None]:
    """Return the orientation of a page of a TIFF file and what describes it, as an EXIF block.

    Args:
        read_at: reads the file.
        layout: the file's.
        main: the first directory; describes a page in a sub-directory too.
        page: the page's own directory.
    """
    orientation = 1
    turn = page.get(ORIENTATION, main.get(ORIENTATION))
    if turn is not None and turn.kind in (SHORT, LONG):
        orientation = integer_of(read_at, layout, turn)
    described = {tag: entry for tag, entry in {**main, **page}.items() if tag in _DESCRIPTIVE}
    if _DESCRIPTION in described and _is_of_a_stack(read_at, layout, described[_DESCRIPTION]):
        del described[_DESCRIPTION]
    if described.keys() <= _RESOLUTION:
        return orientation if orientation in range(1, 9) else 1, None
    block = Layout(layout.order)
    tail = Tail(block, 8)
    directory = copied(read_at, layout, described, tail, pointers=_POINTERS)
    start = tail.directory(directory)
    head = (b"II*\0" if layout.order == "<" else b"MM\0*") + struct.pack(block.pointer, start)
    return orientation if orientation in range(1, 9) else 1, head + bytes(tail.data)


def _is_of_a_stack(read_at: ReadAt, layout: Layout, entry: Entry) -> bool:
    """Say whether an ImageDescription counts slices in a program's own language; one page is no stack."""
    try:
        words = value_of(read_at, layout, entry)
    except ValueError:
        return False
    return words.startswith((b"ImageJ=", b'{"shape"')) or b"<OME" in words


def into_tiff(file: BinaryIO, exif: bytes) -> None:
    """Add what a block says to a finished TIFF file of the same byte order, open for reading and writing."""
    read_at, read_block = in_file(file), in_bytes(exif)
    layout, start = read_layout(read_at)
    main, _ = read_directory(read_at, layout, start)
    block, block_start = read_layout(read_block)
    described, _ = read_directory(read_block, block, block_start)
    tail = Tail(layout, file.seek(0, 2))
    chosen = {tag: entry for tag, entry in described.items() if tag in _DESCRIPTIVE}
    start = tail.directory({**main, **copied(read_block, block, chosen, tail, pointers=_POINTERS)})
    file.seek(0, 2)
    file.write(tail.data)
    file.seek(layout.pointer_at)
    file.write(struct.pack(layout.pointer, start))


def _below(read_at: ReadAt, layout: Layout, main: Directory, tag: int) -> Directory:
    """Return the directory that `tag` points to, empty where there is none."""
    if tag not in main:
        return {}
    return read_directory(read_at, layout, integer_of(read_at, layout, main[tag]))[0]


def _without_thumbnail(exif: bytes, layout: Layout, start: int, thumbnail: int) -> bytes:
    """Cut the thumbnail off where it is the last thing in the block; elsewhere it is only unlinked."""
    if not thumbnail:
        return exif
    read_at = in_bytes(exif)
    try:
        entries, _ = read_directory(read_at, layout, thumbnail)
        first = integer_of(read_at, layout, entries[_THUMBNAIL_OFFSET])
        size = integer_of(read_at, layout, entries[_THUMBNAIL_BYTES])
        used = _end_of(read_at, layout, start)
    except (ValueError, KeyError):
        return exif
    is_last = first >= used and len(exif) - (first + size) in range(4)
    return exif[:first] if is_last else exif


def _end_of(read_at: ReadAt, layout: Layout, offset: int, pointers: frozenset[int] = _POINTERS) -> int:
    """Return the past-the-last offset that a directory, its values and those below it occupy."""
    directory, _ = read_directory(read_at, layout, offset)
    table = struct.calcsize(layout.count) + len(directory) * struct.calcsize(layout.entry)
    ends = [offset + table + struct.calcsize(layout.pointer)]
    for tag, entry in directory.items():
        ends.append(extent_of(layout, entry)[1])
        if tag in pointers:
            below = integer_of(read_at, layout, entry)
            ends.append(_end_of(read_at, layout, below, pointers - {tag}))
    return max(ends)


def _comment_text(comment: bytes, layout: Layout) -> str:
    code, words = comment[:8], comment[8:]
    encoding = "utf-16-be" if layout.order == ">" else "utf-16-le"
    text = words.decode(encoding if code == b"UNICODE\0" else "latin-1", errors="replace")
    return text.strip("\0 ")
