"""Where the pixels of a picture come from, one box at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError
from .decode_tiff import tiff_samples
from .decoded import clamped_01
from .header import Header, read_npy_header
from .opening import named_errors, opened_header
from .picture import Picture
from .reading import MAX_PIXELS, read_picture
from .tiff_pages import TiffPage

if TYPE_CHECKING:
    from ..tiling.geometry import Box

_CACHE_BYTES = 2**27
"""Decoded strips and tiles that are kept: neighbouring boxes share them."""
_BOXED_COLORS = ("MINISWHITE", "MINISBLACK", "RGB")


class Source(Protocol):
    """A picture that is read in boxes."""

    sizes_px: tuple[int, ...]
    """Height and width."""
    channels: int
    white: float
    """The file's value that means 1: 255, 65535 or 1.0."""

    def read(self, box: Box) -> Tensor:
        """Return [1 channels *box.sizes], float32 in units of white; the box lies inside the picture."""
        ...


class ArraySource:
    """Boxes of an array [H W C], in memory or mapped from a file; nothing but the box is ever copied."""

    def __init__(self, pixels_hwc: np.ndarray, *, checked: bool = True):
        """`checked`: values are known to be in [0,1] where they are floats."""
        self._pixels, self._checked = pixels_hwc, checked
        self.sizes_px: tuple[int, ...] = pixels_hwc.shape[:2]
        self.channels = pixels_hwc.shape[2]
        self.white = white_of(pixels_hwc.dtype)

    def read(self, box: Box) -> Tensor:
        """Return [1 channels *box.sizes], float32 in units of white.

        Raises:
            ShapeError: the box leaves the picture.
            UnsupportedPictureError: a value is NaN, infinite or outside [0,1].
        """
        rows, columns = _slices(box, self.sizes_px)
        part = self._pixels[rows, columns]
        return _planes(part if self._checked else clamped_01(np.asarray(part)))


class PictureSource(ArraySource):
    """Boxes of a decoded picture, without a float copy of the whole."""

    def __init__(self, picture: Picture, part: Literal["color", "alpha"] = "color"):
        """`part`: the colour channels, or the alpha channel of a picture that has one."""
        if part == "color":
            super().__init__(picture.color_hwc)
        elif picture.alpha_hw is None:
            raise ShapeError(f"{picture.path}: expected a picture with an alpha channel, got none")
        else:
            super().__init__(picture.alpha_hw[..., None])


class TiffSource:
    """Boxes of a TIFF that lies in strips or tiles; only those that a box touches are decoded."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        header: Header,
        stored: TiffPage,
        page: Any,
        mapped: np.ndarray | None = None,
    ):
        """`mapped`: the pixels [H W C] of a file that is neither compressed nor cut up."""
        self._mapped = mapped
        self._path, self._file, self._header, self._stored, self._page = path, file, header, stored, page
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._cached_bytes = 0
        self._dtype = np.dtype(np.float32) if page.dtype.kind == "f" else page.dtype
        self.sizes_px: tuple[int, ...] = (stored.height_px, stored.width_px)
        self.channels = stored.samples
        self.white = white_of(self._dtype)

    def read(self, box: Box) -> Tensor:
        """Return [1 channels *box.sizes], float32 in units of white.

        Raises:
            ShapeError: the box leaves the picture.
            ImageFileError: the file is damaged there, or holds values that are NaN, infinite or outside [0,1].
        """
        rows, columns = _slices(box, self.sizes_px)
        with named_errors(self._path, self._header):
            if self._mapped is None:
                pixels = self._decoded(rows, columns)
            else:
                pixels = np.array(self._mapped[rows, columns], dtype=self._page.dtype)
            if pixels.dtype.kind == "f":
                pixels = clamped_01(pixels)
            found = tiff_samples(pixels, self._stored)
        return _planes(found.pixels_hwc)

    def _decoded(self, rows: slice, columns: slice) -> np.ndarray:
        height, width = rows.stop - rows.start, columns.stop - columns.start
        pixels = np.zeros((height, width, self.channels), self._page.dtype)
        for index, top, left, channels in self._touched(rows, columns):
            segment = self._segment(index)
            y0, x0 = max(rows.start, top), max(columns.start, left)
            y1 = min(rows.stop, top + segment.shape[0])
            x1 = min(columns.stop, left + segment.shape[1])
            into = pixels[y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start]
            into[..., channels] = segment[y0 - top : y1 - top, x0 - left : x1 - left]
        return pixels

    def _touched(self, rows: slice, columns: slice) -> Iterator[tuple[int, int, int, slice]]:
        """Yield index, first row, first column and channels of every segment that a part lies in."""
        page = self._page
        segment_h = page.tilelength if page.is_tiled else page.rowsperstrip
        segment_w = page.tilewidth if page.is_tiled else self._stored.width_px
        across = -(-self._stored.width_px // segment_w)
        down = -(-self._stored.height_px // segment_h)
        is_planar = page.planarconfig == 2 and self.channels > 1
        for plane in range(self.channels if is_planar else 1):
            channels = slice(plane, plane + 1) if is_planar else slice(None)
            for y in range(rows.start // segment_h, (rows.stop - 1) // segment_h + 1):
                for x in range(columns.start // segment_w, (columns.stop - 1) // segment_w + 1):
                    yield (plane * down + y) * across + x, y * segment_h, x * segment_w, channels

    def _segment(self, index: int) -> np.ndarray:
        """Return a strip or tile [h w c], from the cache or decoded."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        page = self._page
        self._file.seek(page.dataoffsets[index])
        data = self._file.read(page.databytecounts[index])
        segment, _, shape = page.decode(data, index, jpegtables=page.jpegtables)
        if segment is None:
            raise ValueError(f"strip {index} is empty")
        pixels = segment.reshape(segment.shape[-3:])[: shape[-3], : shape[-2]]
        self._cache[index] = pixels
        self._cached_bytes += pixels.nbytes
        while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return pixels


@contextmanager
def open_source(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> Iterator[Source]:
    """Open a picture for reading in boxes, colour and alpha in one: the last of 2 or 4 channels is alpha.

    A npy is mapped, a TIFF of strips or tiles is read where a box lies; other files are decoded whole, at their own
    depth. A TIFF that must be turned upright, or whose colours must be converted, is decoded whole too.

    Raises:
        ImageFileError, MissingDependencyError: as `read_picture` does.
    """
    path = Path(path)
    with opened_header(path, max_pixels=max_pixels) as (file, header, stored):
        in_boxes = _in_boxes(path, file, header, stored)
        if in_boxes is not None:
            yield in_boxes
            return
    picture = read_picture(path, max_pixels=max_pixels)
    if picture.alpha_hw is None:
        yield PictureSource(picture)
    else:
        yield ArraySource(np.concatenate([picture.color_hwc, picture.alpha_hw[..., None]], axis=2))


def white_of(dtype: np.dtype) -> float:
    """Return the value that means 1: 1.0 for floats, else the largest."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def _in_boxes(path: Path, file: BinaryIO, header: Header, stored: TiffPage | None) -> Source | None:
    """Return a source that reads the file itself, or None where it has to be decoded whole."""
    if header.format == "npy":
        return _mapped_npy(path, file, header)
    if stored is None:
        return None
    try:
        import tifffile
    except ImportError:
        return None  # the reader says what is missing, if it needs it
    with named_errors(path, header), tifffile.TiffFile(path) as opened:
        opened.filehandle.seek(stored.offset)
        page: Any = tifffile.TiffPage(opened, index=stored.index or 0)
        orientation = page.tags.valueof(274, 1)
        mapped = None
        if page.is_memmappable and page.axes != "SYX":
            shape = (stored.height_px, stored.width_px, stored.samples)
            kind = page.dtype.newbyteorder(opened.byteorder)
            mapped = np.memmap(path, kind, "r", page.dataoffsets[0], shape)
    dtype = page.dtype
    fits = (
        orientation == 1
        and dtype is not None
        and (dtype.kind == "f" or (dtype, page.bitspersample) in ((np.uint8, 8), (np.uint16, 16)))
        and page.photometric.name in _BOXED_COLORS
        and page.axes in ("YX", "YXS", "SYX")
    )
    return TiffSource(path, file, header, stored, page, mapped) if fits else None


def _mapped_npy(path: Path, file: BinaryIO, header: Header) -> Source | None:
    array = read_npy_header(file)
    if array.dtype.kind != "f" or array.fortran_order or len(array.shape) not in (2, 3):
        return None
    if file.seek(0, 2) < array.data_offset + int(np.prod(array.shape)) * array.dtype.itemsize:
        return None  # the reader says that it is truncated
    mapped = np.memmap(path, array.dtype, "r", array.data_offset, array.shape)
    pixels = mapped if mapped.ndim == 3 else mapped[..., None]
    if pixels.shape[2] > 4:
        return None
    return _Named(path, header, ArraySource(pixels, checked=False))


class _Named:
    """A source whose errors name the file."""

    def __init__(self, path: Path, header: Header, source: ArraySource):
        self._path, self._header, self._source = path, header, source
        self.sizes_px, self.channels, self.white = source.sizes_px, source.channels, source.white

    def read(self, box: Box) -> Tensor:
        with named_errors(self._path, self._header):
            return self._source.read(box)


def _slices(box: Box, sizes_px: tuple[int, ...]) -> tuple[slice, slice]:
    inside = all(
        start >= 0 and size > 0 and start + size <= whole
        for start, size, whole in zip(box.starts, box.sizes, sizes_px, strict=True)
    )
    if not inside:
        raise ShapeError(
            f"expected a box inside the picture's {list(sizes_px)} px, got {list(box.sizes)} at {list(box.starts)}"
        )
    rows, columns = (slice(start, start + size) for start, size in zip(box.starts, box.sizes, strict=True))
    return rows, columns


def _planes(pixels_hwc: np.ndarray) -> Tensor:
    """Return [1 C h w] float32 in units of white."""
    white = white_of(pixels_hwc.dtype)
    planes = torch.empty((1, pixels_hwc.shape[2], *pixels_hwc.shape[:2]), dtype=torch.float32)
    np.divide(pixels_hwc.transpose(2, 0, 1), np.float32(white), out=planes[0].numpy(), dtype=np.float32)
    return planes
