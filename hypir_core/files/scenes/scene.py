"""A scene: numbers with named axes that are read box by box."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...errors import HypirError, ImageFileError, ShapeError
from ...tiling.geometry import Box, by
from ..decoded import DECODE_ERRORS
from .grid import SPATIAL, Grid, Placement, chosen_bands

_HALF = np.dtype(np.float16)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Numbers of one box."""

    stored: np.ndarray
    """[c *sizes], as the file holds them."""
    valid: np.ndarray | None
    """[*sizes], true where there is data; None where there is data everywhere."""


class Scene(Protocol):
    """A scene that is open for reading. It is a `Source` whose white is 1: values are the file's own."""

    path: Path
    grid: Grid
    placement: Placement
    notes: tuple[str, ...]
    """What a report must say about the file."""
    sizes_px: tuple[int, ...]
    channels: int
    white: float
    places: tuple[int, ...]
    """Which of the file's channels these are."""

    def read(self, box: Box) -> Tensor:
        """Return [1 c *box.sizes], float32 values; NaN and nodata are as they are."""
        ...

    def block(self, box: Box) -> Block:
        """Return the stored numbers under a box, and where they are data.

        Raises:
            ImageFileError: the file is damaged there.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Lazy(Protocol):
    """What h5py, Zarr and NumPy call an array: slices are read when they are asked for."""

    @property
    def shape(self) -> Sequence[int]:
        """Lengths of the axes."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Number format."""
        ...

    def __getitem__(self, key: Any) -> Any:
        """Read a block."""
        ...


class ArrayScene:
    """A scene over anything that is sliced as an array."""

    def __init__(
        self,
        path: Path,
        array: Lazy,
        order: str,
        *,
        bands: Sequence[str] = (),
        names: Sequence[str] = (),
        nodata: float | None = None,
        slope: float = 1.0,
        intercept: float = 0.0,
        placement: Placement | None = None,
        notes: Sequence[str] = (),
        mask: Callable[[tuple[slice, ...]], np.ndarray] | None = None,
        close: Callable[[], None] = lambda: None,
    ):
        """Name the axes of an array.

        Args:
            path: of the file.
            array: what is sliced.
            order: a letter for each axis of the array: t z y x, and c for channels; axes called ``1`` have length 1.
            bands: what a person wishes, by name or number; all without.
            names: of the channels.
            nodata: the stored number that stands for none.
            slope: of stored numbers.
            intercept: of stored numbers.
            placement: where it lies.
            notes: for the report.
            mask: slices of the spatial axes → true where there is data.
            close: called once.
        """
        self.path, self._array, self._order, self._mask, self._close = path, array, order, mask, close
        axes = "".join(axis for axis in SPATIAL if axis in order)
        lengths = dict(zip(order, array.shape, strict=True))
        count = int(lengths.get("c", 1))
        all_names = tuple(names) if len(names) == count else ("",) * count
        self.places = chosen_bands(all_names, tuple(bands), path)
        self.grid = Grid(
            axes=axes,
            sizes=tuple(int(lengths[axis]) for axis in axes),
            bands=tuple(all_names[i] for i in self.places),
            dtype=_native(np.dtype(array.dtype), path),
            nodata=nodata,
            slope=slope,
            intercept=intercept,
            masked=mask is not None,
        )
        self.placement, self.notes = placement or Placement(), tuple(notes)
        self.sizes_px, self.channels, self.white = self.grid.sizes, len(self.places), 1.0
        self.reopen: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
        if 0 in self.sizes_px:
            raise ImageFileError(f"{path}: expected at least one cell, got {by(self.sizes_px)}")

    def read(self, box: Box) -> Tensor:
        """Return [1 c *box.sizes], float32 values."""
        return torch.from_numpy(values_of(self.block(box).stored, self.grid))[None]

    def block(self, box: Box) -> Block:
        """Return the stored numbers under a box, and where they are data."""
        spans = spans_of(box, self.sizes_px)
        try:
            stored = self._stored(dict(zip(self.grid.axes, spans, strict=True)))
            mask = None if self._mask is None else self._mask(spans)
        except HypirError:
            raise
        except DECODE_ERRORS as err:
            where = ", ".join(
                f"{axis} {s.start}–{s.stop - 1}" for axis, s in zip(self.grid.axes, spans, strict=True)
            )
            why = " ".join(str(err).split()) or type(err).__name__
            raise ImageFileError(
                f"{self.path}: expected a complete file, got a damaged block at {where} ({why}); copy it again from "
                "its source"
            ) from err
        return Block(stored, known(stored, self.grid.nodata, mask))

    def close(self) -> None:
        """Close the file."""
        self._close()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self.reopen is None:
            raise TypeError(f"{self.path}: a scene is pickled by how it was opened; use open_scene")
        return self.reopen

    def _stored(self, spans: Mapping[str, slice]) -> np.ndarray:
        """Return [c *sizes], in the order of the letters."""
        places = self.places
        straight = places == tuple(range(places[0], places[0] + len(places)))
        channels = slice(places[0], places[-1] + 1) if straight else slice(min(places), max(places) + 1)
        key = tuple(channels if axis == "c" else spans.get(axis, slice(0, 1)) for axis in self._order)
        part = np.asarray(self._array[key])
        wanted = "c" + self.grid.axes
        named = [(axis, length) for axis, length in zip(self._order, part.shape, strict=True) if axis != "1"]
        part = part.reshape([length for _, length in named])
        order = "".join(axis for axis, _ in named)
        if "c" not in order:
            part, order = part[None], "c" + order
        part = part.transpose([order.index(axis) for axis in wanted])
        if not straight:
            part = part[[place - min(places) for place in places]]
        return np.ascontiguousarray(part, self.grid.dtype)


@contextmanager
def closed_on_error(close: Callable[[], None]) -> Iterator[None]:
    """Close a file where what is made of it fails; whoever has the scene closes it otherwise."""
    try:
        yield
    except BaseException:
        close()
        raise


def _native(dtype: np.dtype, path: Path) -> np.dtype:
    """Return a format of numbers in this machine's byte order; half floats are read as float32.

    Raises:
        ImageFileError: it holds no real numbers.
    """
    if dtype == _HALF:
        return np.dtype(np.float32)
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    if dtype.kind not in "uif":
        raise ImageFileError(f"{path}: expected integers or floats, got {dtype}; convert it")
    return dtype.newbyteorder("=")


def spans_of(box: Box, sizes: Sequence[int]) -> tuple[slice, ...]:
    """Return the slices of a box that lies inside a scene.

    Raises:
        ShapeError: it does not.
    """
    inside = len(box.starts) == len(sizes) and all(
        start >= 0 and length > 0 and start + length <= size
        for start, length, size in zip(box.starts, box.sizes, sizes, strict=True)
    )
    if not inside:
        raise ShapeError(
            f"expected a box inside {by(sizes)} cells, got {list(box.sizes)} at {list(box.starts)}"
        )
    return tuple(slice(start, end) for start, end in zip(box.starts, box.ends, strict=True))


def known(stored: np.ndarray, nodata: float | None, mask: np.ndarray | None) -> np.ndarray | None:
    """Return where numbers [c *sizes] are data in every band, [*sizes]; None where they are everywhere."""
    valid = mask
    if stored.dtype.kind == "f":
        finite = np.isfinite(stored).all(0)
        valid = finite if valid is None else valid & finite
    if nodata is not None and np.isfinite(nodata):
        data = (stored != _in(nodata, stored.dtype)).all(0)
        valid = data if valid is None else valid & data
    return None if valid is None or valid.all() else np.asarray(valid)


def _in(nodata: float, dtype: np.dtype) -> Any:
    """Return the value as the format holds it (a float32 file's -3.4e38 is not the float64 one)."""
    return dtype.type(nodata) if dtype.kind == "f" else nodata


def values_of(stored: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the float32 values of stored numbers."""
    if grid.slope == 1 and grid.intercept == 0:
        return stored.astype(np.float32)
    return (stored * np.float64(grid.slope) + grid.intercept).astype(np.float32)


def stored_of(values: np.ndarray, grid: Grid) -> tuple[np.ndarray, int]:
    """Return numbers in the grid's format, and how many values it could not hold (they become its limits).

    Halves are rounded up, as in every other format. A value that would become the nodata number moves by one.
    """
    if grid.slope != 1 or grid.intercept != 0:
        values = (values - grid.intercept) / np.float64(grid.slope)
    if grid.dtype.kind == "f":
        stored = values.astype(grid.dtype, copy=False)
        if grid.nodata is not None and np.isfinite(grid.nodata):
            nodata = grid.dtype.type(grid.nodata)
            stored = np.where(stored == nodata, np.nextafter(nodata, grid.dtype.type(np.inf)), stored)
        return stored, 0
    info = np.iinfo(grid.dtype)
    rounded = np.floor(values.astype(np.float64) + 0.5)
    beyond = int(((rounded < info.min) | (rounded > info.max)).sum())
    low, high = int(info.min), int(info.max)
    if grid.dtype.itemsize == 8:  # float64 cannot say 2**63 - 1
        low, high = max(low, -(2**53)), min(high, 2**53)
    stored = np.clip(rounded, low, high).astype(grid.dtype)
    if grid.nodata is not None and low <= grid.nodata <= high:
        beside = int(grid.nodata) + (1 if grid.nodata < high else -1)
        stored[stored == int(grid.nodata)] = beside
    return stored, beyond
