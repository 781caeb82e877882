"""Which pages a TIFF file has, which of them is the picture, and what its samples mean.

A page that calls itself a reduced copy or a mask is no page of its own. Where the first one is a thumbnail, the
picture stands further back, or in a sub-directory (SubIFDs) of the first.

Sources: TIFF 6.0 sections 8 and 18; TIFF technical note 1 (SubIFDs); ImageJ and OME-TIFF descriptions.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import BinaryIO

from .metadata.tiff_tags import (
    Directory,
    Layout,
    ReadAt,
    in_file,
    integers_of,
    read_directory,
    read_layout,
    value_of,
)

GREY, RGB, PALETTE, CMYK = (0, 1), 2, 3, 5
_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 9: 3}
_SENSOR = frozenset({32803, 34892})
_STRIP_TABLES = ((273, 279), (324, 325))
_NEW_SUBFILE, _OLD_SUBFILE, _SUB_DIRECTORIES, _DNG_VERSION, _IMAGE_DEPTH = 254, 255, 330, 50706, 32997
_DESCRIPTION = 270
_MOST_PAGES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffPage:
    """One page, from its directory alone."""

    offset: int
    """Where its directory lies in the file."""
    index: int | None
    """Place in the chain of directories; None for one in a sub-directory."""
    width_px: int
    height_px: int
    bits: int
    """Bits per sample; the largest, where samples differ."""
    photometric: int
    samples: int
    """Samples per pixel."""
    is_planar: bool = False
    """Each channel lies in strips of its own."""
    extra: tuple[int, ...] = ()
    """Meaning of the samples beyond the colours: 0 unknown, 1 premultiplied alpha, 2 alpha."""

    @property
    def colors(self) -> int:
        """Number of samples that the photometric interpretation speaks of."""
        return _COLORS.get(self.photometric, self.samples)

    @property
    def has_alpha(self) -> bool:
        """Say whether the one sample beyond the colours is an alpha channel."""
        return self.samples == self.colors + 1 and self.extra[:1] in ((1,), (2,))

    @property
    def is_picture(self) -> bool:
        """Say whether every sample is a colour or the alpha channel."""
        return self.samples == self.colors + self.has_alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffPages:
    """The pages of a file that are pictures of their own."""

    pages: tuple[TiffPage, ...]
    slices: int
    """How many slices of one stack the file says it holds; 1 for documents and single pictures."""
    is_raw: bool
    """It is a camera's raw file."""
    first_is_thumbnail: bool


def tiff_pages(file: BinaryIO) -> TiffPages:
    """Read every directory of an open TIFF file.

    Raises:
        ValueError: a directory that is needed is damaged, or a strip of pixels lies behind the end of the file.
    """
    read_at = in_file(file)
    layout, start = read_layout(read_at)
    full: list[TiffPage] = []
    reduced: list[tuple[TiffPage, Directory]] = []
    directory, following = read_directory(read_at, layout, start)
    first, offset, seen = directory, start, {start}
    while True:
        index = len(seen) - 1
        kind = _subfile(read_at, layout, directory)
        if kind == "full":
            full.append(_page(read_at, layout, directory, offset, index))
        elif kind == "reduced":
            reduced.append((_page(read_at, layout, directory, offset, index), directory))
        if not following or following in seen or len(seen) >= _MOST_PAGES:
            break
        offset = following
        seen.add(offset)
        directory, following = read_directory(read_at, layout, offset)
    first_is_thumbnail = _subfile(read_at, layout, first) == "reduced"
    below = [page for _, owner in reduced for page in _below(read_at, layout, owner)]
    full += [page for page in below if page not in full]
    if not full:
        first_is_thumbnail = False
        full = [page for page, _ in reduced] or [_page(read_at, layout, first, start, 0)]
    for page in full:
        _check_strips(read_at, layout, page, file.seek(0, 2))
    is_raw = _DNG_VERSION in first or any(page.photometric in _SENSOR for page in full)
    slices = _slices(read_at, layout, first, full[0], len(full))
    return TiffPages(pages=tuple(full), slices=slices, is_raw=is_raw, first_is_thumbnail=first_is_thumbnail)


def _subfile(read_at: ReadAt, layout: Layout, directory: Directory) -> str:
    new = _numbers(read_at, layout, directory, _NEW_SUBFILE, 0)[0]
    old = _numbers(read_at, layout, directory, _OLD_SUBFILE, 1)[0]
    if new & 4:
        return "mask"
    return "reduced" if new & 1 or (not new and old == 2) else "full"


def _below(read_at: ReadAt, layout: Layout, owner: Directory) -> list[TiffPage]:
    found = []
    for offset in _numbers(read_at, layout, owner, _SUB_DIRECTORIES):
        directory, _ = read_directory(read_at, layout, offset)
        if _subfile(read_at, layout, directory) == "full":
            found.append(_page(read_at, layout, directory, offset, None))
    return found


def _page(read_at: ReadAt, layout: Layout, directory: Directory, offset: int, index: int | None) -> TiffPage:
    def numbers(tag: int, *default: int) -> tuple[int, ...]:
        return _numbers(read_at, layout, directory, tag, *default)

    depth = numbers(_IMAGE_DEPTH, 1)[0]
    if depth > 1:
        raise ValueError(f"it is a volume of {depth} slices in one page")
    return TiffPage(
        offset=offset,
        index=index,
        width_px=numbers(256, 0)[0],
        height_px=numbers(257, 0)[0],
        bits=max(numbers(258, 1)),
        photometric=numbers(262, 1)[0],
        samples=numbers(277, 1)[0],
        is_planar=numbers(284, 1)[0] == 2,
        extra=numbers(338),
    )


def _check_strips(read_at: ReadAt, layout: Layout, page: TiffPage, end: int) -> None:
    directory, _ = read_directory(read_at, layout, page.offset)
    for offsets_tag, sizes_tag in _STRIP_TABLES:
        offsets = _numbers(read_at, layout, directory, offsets_tag)
        sizes = _numbers(read_at, layout, directory, sizes_tag)
        if sizes and (len(offsets) != len(sizes) or 0 in sizes):
            raise ValueError("its table of strips is damaged")
        if any(offset + size > end for offset, size in zip(offsets, sizes, strict=False)):
            raise ValueError("it is truncated: a strip of pixels lies behind the end of the file")


def _slices(read_at: ReadAt, layout: Layout, first: Directory, page: TiffPage, pages: int) -> int:
    if _DESCRIPTION not in first:
        return 1
    try:
        words = value_of(read_at, layout, first[_DESCRIPTION]).split(b"\0")[0].decode("utf-8", "replace")
    except ValueError:
        return 1
    if words.startswith("ImageJ="):
        counts = {key: int(value) for key, value in re.findall(r"(?m)^(\w+)=(\d+)\s*$", words)}
        return max(1, counts.get("images", 1))
    if "<OME" in words:
        sizes = {axis: int(size) for axis, size in re.findall(r"\bSize([ZCT])=\"(\d+)\"", words)}
        return max(1, math.prod(sizes.values()) // max(1, page.samples))
    if words.startswith('{"shape"'):
        try:
            shape = json.loads(words)["shape"]
            values = math.prod(int(side) for side in shape)
        except (ValueError, TypeError, KeyError):
            return 1
        if pages > 1:
            return max(1, values // max(1, page.width_px * page.height_px * page.samples))
    return 1


def _numbers(
    read_at: ReadAt, layout: Layout, directory: Directory, tag: int, *default: int
) -> tuple[int, ...]:
    found = integers_of(read_at, layout, directory[tag]) if tag in directory else default
    if not found and tag in directory:
        raise ValueError(f"its tag {tag} is empty")
    return found
