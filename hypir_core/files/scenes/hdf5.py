"""One data set of an HDF5 file, read and written block by block by h5py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError, ImageFileError, MissingDependencyError
from ..opening import open_file
from .axes import LETTERS, Wanted, guessed_axes, known_axes
from .grid import Placement
from .result import Result
from .scene import ArrayScene, closed_on_error

_CHUNK = 256
_SIZES = "element_size_um"
"""Attribute with the length of a cell along z y x, as ilastik's and Fiji's plug-ins write it."""


def open_hdf5(path: Path, wanted: Wanted) -> ArrayScene:
    """Open a data set: the one that is named, or the only one of two or more axes.

    Raises:
        ImageFileError: it is no HDF5 file; or there is no such data set, or more than one and none is named.
        MissingDependencyError: h5py is not installed.
    """
    h5py = library()
    open_file(path).close()
    try:
        file = h5py.File(path, "r")
    except OSError as err:
        raise ImageFileError(
            f"{path}: expected an HDF5 file, but {err}; copy it again from its source"
        ) from err
    with closed_on_error(file.close):
        data = _chosen(file, path, wanted.dataset)
        said = _axes(data)
        if said is None:
            order, notes = guessed_axes(data.shape, wanted, path)
        else:
            order, notes = known_axes(said, data.shape, wanted, path), ()
        others = [name for name, _ in _datasets(file) if name != data.name]
        if others:
            notes = (*notes, f"of the file, {data.name} is restored; {', '.join(others)} are not written")
        names = tuple(_word(n) for n in np.atleast_1d(data.attrs.get("bands", ())))
        nodata = data.attrs.get("_FillValue")
        sizes = [float(n) for n in np.atleast_1d(data.attrs.get(_SIZES, ()))]
        spacing = dict(zip("zyx"[-len(sizes) :], sizes, strict=True)) if 0 < len(sizes) <= 3 else {}
        return ArrayScene(
            path,
            data,
            order,
            bands=wanted.bands,
            names=names,
            nodata=None if nodata is None else float(np.atleast_1d(nodata)[0]),
            placement=Placement(
                spacing=spacing, units=dict.fromkeys(spacing, "µm"), about={"hdf5": {"name": data.name}}
            ),
            notes=notes,
            close=file.close,
        )


def write_hdf5(path: Path, result: Result) -> None:
    """Write a result as one chunked, deflated data set with the name that the input had.

    Raises:
        MissingDependencyError: h5py is not installed.
    """
    h5py = library()
    grid, placement = result.grid, result.placement
    order, shape = array_order(result)
    chunks = tuple(min(n, _CHUNK) if axis in "yx" else 1 for axis, n in zip(order, shape, strict=True))
    name = placement.about.get("hdf5", {}).get("name", "/data")
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            name, shape=shape, dtype=grid.dtype, chunks=chunks, compression="gzip", shuffle=True
        )
        data.attrs["axes"] = order.upper()
        if any(grid.bands):
            data.attrs["bands"] = list(grid.bands)
        if grid.nodata is not None:
            data.attrs["_FillValue"] = grid.dtype.type(grid.nodata)
        lengths = [placement.spacing[axis] for axis in "zyx" if axis in placement.spacing]
        if lengths:
            data.attrs[_SIZES] = lengths
        for word, said in result.text.items():
            data.attrs[word] = said
        for key, part in written_parts(result, order, _CHUNK):
            data[key] = part


def array_order(result: Result) -> tuple[str, tuple[int, ...]]:
    """Return the letters and lengths of a result as an array: t z c y x, without axes that it does not have."""
    lengths = dict(zip(result.grid.axes, result.grid.sizes, strict=True)) | {"c": len(result.grid.bands)}
    order = "".join(
        axis
        for axis in LETTERS.lower()
        if axis in lengths and (axis != "c" or lengths["c"] > 1 or result.source.grid.bands != ("",))
    )
    return order, tuple(lengths[axis] for axis in order)


def written_parts(result: Result, order: str, rows: int) -> Iterator[tuple[tuple[Any, ...], np.ndarray]]:
    """Yield where every part of a result belongs in an array of this order, and its numbers."""
    *outer, height, _ = result.grid.sizes
    for plane in range(result.planes):
        index = dict(zip(result.grid.axes, np.unravel_index(plane, outer) if outer else (), strict=False))
        for top in range(0, height, rows):
            end = min(top + rows, height)
            part = result.part(plane, top, end)
            places = {axis: int(at) for axis, at in index.items()} | {"y": slice(top, end)}
            yield tuple(places.get(axis, slice(None)) for axis in order), part if "c" in order else part[0]


def _chosen(file: Any, path: Path, wanted: str) -> Any:
    found = dict(_datasets(file))
    if wanted:
        name = wanted if wanted.startswith("/") else f"/{wanted}"
        if name not in found:
            raise ConfigError(f"{path}: expected --dataset out of {', '.join(found) or 'none'}; got {wanted}")
        return found[name]
    if len(found) != 1:
        raise ImageFileError(
            f"{path}: expected one data set of two or more axes, got {len(found)} ({', '.join(found)}); "
            "name one with --dataset"
        )
    return next(iter(found.values()))


def _datasets(file: Any) -> list[tuple[str, Any]]:
    """Return the data sets of numbers with two or more axes."""
    h5py = library()
    found: list[tuple[str, Any]] = []

    def visit(_name: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset) and one.ndim >= 2 and one.dtype.kind in "uifb":
            found.append((one.name, one))

    file.visititems(visit)
    return found


def _axes(data: Any) -> str | None:
    labels = [dim.label for dim in data.dims]
    if all(len(label) == 1 for label in labels):
        return "".join(labels)
    said = data.attrs.get("axes")
    word = _word(said) if said is not None else ""
    return word if len(word) == data.ndim else None


def _word(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def library() -> Any:
    """Import h5py.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import h5py
    except ImportError as err:
        raise MissingDependencyError("h5py", "scenes", "an HDF5 file") from err
    return h5py
