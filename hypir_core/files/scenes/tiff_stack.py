"""Stacks of pages as TIFF, OME-TIFF and ImageJ hyperstacks, with named axes and the size of a pixel; by tifffile.

Pages of an uncompressed stack are read row by row, others page by page. Results are written in the order T Z C Y X, in
the source's dialect: OME-TIFF, ImageJ, or tifffile's own ``{"shape": …}``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ImageFileError, MissingDependencyError
from ..opening import open_file
from .axes import LETTERS, Wanted, guessed_axes, known_axes
from .flat import FlatArray
from .grid import Placement
from .result import Result
from .scene import ArrayScene, closed_on_error

_BIG = 4 * 10**9
_OME_SIZE = re.compile(r'PhysicalSize([XYZ])="([^"]+)"')
_OME_UNIT = re.compile(r'PhysicalSize([XYZ])Unit="([^"]+)"')
_OME_NAME = re.compile(r'<Channel\b[^>]*?\bName="([^"]*)"')
_OME_STEP = re.compile(r'TimeIncrement="([^"]+)"')
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
_LONG = ("int64", "uint64")
"""OME-TIFF holds none of these."""
_MICRO = {
    "micron": "µm",
    "um": "µm",
    "\\u00B5m": "µm",
    "µm": "µm",
    "nm": "nm",
    "mm": "mm",
    "cm": "cm",
    "inch": "in",
}


def open_stack(path: Path, wanted: Wanted) -> ArrayScene:
    """Open the first series of a TIFF.

    Raises:
        ImageFileError: it cannot be read, its axes are not known, or it has no such channel.
        MissingDependencyError: tifffile is not installed.
    """
    with _remarks() as remarks:
        scene = _opened(path, wanted)
    scene.notes = (*scene.notes, *remarks)
    return scene


def _opened(path: Path, wanted: Wanted) -> ArrayScene:
    """Open a stack; see `open_stack`."""
    tifffile = library()
    open_file(path).close()
    try:
        file = tifffile.TiffFile(path)
    except (tifffile.TiffFileError, OSError, ValueError) as err:
        raise ImageFileError(
            f"{path}: expected a TIFF stack, but {err}; copy it again from its source"
        ) from err
    with closed_on_error(file.close):
        try:
            series = file.series[0]
            keyframe = series.keyframe
        except (ValueError, IndexError, KeyError, TypeError) as err:
            raise ImageFileError(
                f"{path}: expected a TIFF stack, but {err}; copy it again from its source"
            ) from err
        said, shape = series.axes, tuple(int(n) for n in series.shape)
        if wanted.axes or not set(said) & set("QI") or file.is_ome or file.is_imagej or len(shape) > 3:
            order, notes = known_axes(said, shape, wanted, path), ()
        else:  # pages without a word of what they are
            order, notes = guessed_axes(shape, wanted, path)
        if len(file.series) > 1:
            notes = (
                *notes,
                f"the first of {len(file.series)} series is restored; the others are not written",
            )
        array: Any
        dtype = np.dtype(keyframe.dtype).newbyteorder(file.byteorder)
        if series.dataoffset is not None:
            array = FlatArray(file.filehandle, series.dataoffset, shape, dtype)
            if said.endswith("S"):
                array = _Interleaved(array)
        else:
            array = _Pages(series, shape, samples_last=said.endswith("S"))
        placement, names = _meaning(file, keyframe)
        return ArrayScene(
            path,
            array,
            order,
            bands=wanted.bands,
            names=names,
            placement=placement,
            notes=notes,
            close=file.close,
        )


@contextmanager
def _remarks() -> Iterator[list[str]]:
    """Gather what tifffile logs of a file, so that the report says it."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(f"the file may be damaged: {' '.join(record.getMessage().split())}")

    log, handler = logging.getLogger("tifffile"), Handler(logging.WARNING)
    before = log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield found
    finally:
        log.propagate = before
        log.removeHandler(handler)


def write_stack(path: Path, result: Result) -> None:
    """Write a result as a stack.

    Raises:
        MissingDependencyError: tifffile is not installed.
    """
    tifffile = library()
    grid, placement = result.grid, result.placement
    about = placement.about.get("tiff", {"dialect": "ome", "packed": False})
    dialect = "ome" if ".ome." in result.target.name.lower() else about["dialect"]
    if dialect == "imagej" and grid.dtype.name not in _IMAGEJ_TYPES:
        dialect = "ome"
    if dialect == "ome" and grid.dtype.name in _LONG:
        dialect = "plain"
    lengths = dict(zip(grid.axes, grid.sizes, strict=True)) | {"c": len(grid.bands)}
    axes = "".join(axis for axis in LETTERS.lower() if lengths.get(axis, 1) > 1 or axis in "yx")
    shape = tuple(lengths[axis] for axis in axes)
    metadata: dict[str, Any] = {"axes": axes.upper()}
    extra: dict[str, Any] = {}
    if dialect == "imagej":
        metadata |= _imagej(result)
        extra = {"imagej": True}
    elif dialect == "ome":
        metadata |= _ome(result)
        extra = {"ome": True}
    x, y = (placement.spacing.get(axis) for axis in "xy")
    if x and y:
        per_cm = 10000 if placement.units.get("x", "µm") == "µm" else None
        extra["resolution"] = (
            (1 / x, 1 / y) if dialect == "imagej" or not per_cm else (per_cm / x, per_cm / y)
        )
        extra["resolutionunit"] = "NONE" if dialect == "imagej" or not per_cm else "CENTIMETER"
    if about["packed"] and dialect != "imagej":
        extra["compression"] = "zlib"
    big = grid.bytes > _BIG and dialect != "imagej"
    with tifffile.TiffWriter(path, bigtiff=big, **_dialect(extra)) as writer:
        writer.write(
            _planes(result, "c" in axes),
            shape=shape,
            dtype=grid.dtype,
            photometric="minisblack",
            metadata=metadata,
            **{k: v for k, v in extra.items() if k not in {"imagej", "ome"}},
        )


def _dialect(extra: Mapping[str, Any]) -> dict[str, bool]:
    return {key: bool(extra.get(key, False)) for key in ("imagej", "ome")}


def _planes(result: Result, channels: bool) -> Iterator[np.ndarray]:
    """Yield planes [rows columns] in the order t z c."""
    height = result.grid.sizes[-2]
    for plane in range(result.planes):
        part = result.part(plane, 0, height)
        yield from part if channels else part[:1]


def _imagej(result: Result) -> dict[str, Any]:
    placement = result.placement
    found: dict[str, Any] = {}
    if "z" in placement.spacing:
        found["spacing"] = placement.spacing["z"]
    if "t" in placement.spacing:
        found["finterval"] = placement.spacing["t"]
    if "x" in placement.units:
        found["unit"] = placement.units["x"].replace("µ", "u")
    if result.text:
        found["Info"] = "\n".join(f"{name}: {words}" for name, words in result.text.items())
    return found


def _ome(result: Result) -> dict[str, Any]:
    placement = result.placement
    found: dict[str, Any] = {}
    for axis in "xyz":
        if axis in placement.spacing:
            found[f"PhysicalSize{axis.upper()}"] = placement.spacing[axis]
            found[f"PhysicalSize{axis.upper()}Unit"] = placement.units.get(axis, "µm")
    if "t" in placement.spacing:
        found["TimeIncrement"] = placement.spacing["t"]
        found["TimeIncrementUnit"] = "s"
    if any(result.grid.bands):
        found["Channel"] = {"Name": list(result.grid.bands)}
    if result.text:
        found["Description"] = "\n".join(f"{name}: {words}" for name, words in result.text.items())
    return found


def _meaning(file: Any, page: Any) -> tuple[Placement, tuple[str, ...]]:
    """Return the size of a pixel and the channels' names, as the file's dialect says them."""
    packed = int(page.compression) != 1
    if file.is_ome:
        words = file.ome_metadata or ""
        spacing = {axis.lower(): float(size) for axis, size in _OME_SIZE.findall(words)}
        units = dict.fromkeys(spacing, "µm") | {a.lower(): _unit(u) for a, u in _OME_UNIT.findall(words)}
        if step := _OME_STEP.findall(words):
            spacing["t"], units["t"] = float(step[0]), "s"
        about = {"dialect": "ome", "packed": packed}
        return Placement(spacing=spacing, units=units, about={"tiff": about}), tuple(_OME_NAME.findall(words))
    spacing, units = {}, {}
    resolution = [page.tags.valueof(code) for code in (282, 283)]
    if file.is_imagej:
        said = file.imagej_metadata or {}
        unit = _unit(str(said.get("unit", "")))
        for axis, ratio in zip("xy", resolution, strict=True):
            if ratio is not None and ratio[0]:
                spacing[axis], units[axis] = ratio[1] / ratio[0], unit
        if "spacing" in said:
            spacing["z"], units["z"] = float(said["spacing"]), unit
        if "finterval" in said:
            spacing["t"], units["t"] = float(said["finterval"]), "s"
        units = {axis: name for axis, name in units.items() if name}
        about = {"dialect": "imagej", "packed": packed}
        return Placement(spacing=spacing, units=units, about={"tiff": about}), ()
    micrometres = {2: 25400.0, 3: 10000.0}.get(int(page.tags.valueof(296, 1)))
    for axis, ratio in zip("xy", resolution, strict=True):
        if ratio is not None and ratio[0] and micrometres:
            spacing[axis], units[axis] = micrometres * ratio[1] / ratio[0], "µm"
    about = {"dialect": "plain", "packed": packed}
    return Placement(spacing=spacing, units=units, about={"tiff": about}), ()


def _unit(word: str) -> str:
    return _MICRO.get(word, word)


class _Pages:
    """Pages of a series as an array; the last that was decoded is kept."""

    def __init__(self, series: Any, shape: tuple[int, ...], *, samples_last: bool):
        self._series, self._inner = series, 3 if samples_last else 2
        self.shape, self.dtype = shape, np.dtype(series.dtype)
        self._page_shape = shape[-self._inner :]
        self._planar = not samples_last and len(series.keyframe.shape) > 2
        self._kept: tuple[int, np.ndarray] | None = None

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        outer = [range(*s.indices(n)) for s, n in zip(key, self.shape, strict=True)][: -self._inner]
        lengths = self.shape[: -self._inner]
        found = [
            self._page(int(np.ravel_multi_index(place, lengths)) if place else 0)[key[-self._inner :]]
            for place in product(*outer)
        ]
        return np.stack(found).reshape([*map(len, outer), *found[0].shape])

    def _page(self, number: int) -> np.ndarray:
        if self._kept is None or self._kept[0] != number:
            per_page = self._series.keyframe.shape[0] if self._planar else 1
            page = self._series.pages[number // per_page]
            if page is None:
                raise ValueError(f"page {number} is missing")
            try:
                pixels = page.asarray()
            except Exception as err:  # decoders raise whatever they like
                raise ValueError(f"page {number}: {err}") from err
            pixels = pixels[number % per_page] if self._planar else pixels
            self._kept = (number, pixels.reshape(self._page_shape))
        return self._kept[1]


class _Interleaved:
    """An array whose last axis are the samples of a pixel: whole rows are read."""

    def __init__(self, array: FlatArray):
        *outer, rows, columns, samples = array.shape
        self.shape, self.dtype, self._array = array.shape, array.dtype, array
        array.shape = (*outer, rows, columns * samples)

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        *outer, rows, columns, samples = key
        n = self.shape[-1]
        part = self._array[(*outer, rows, slice(columns.start * n, columns.stop * n))]
        return part.reshape(*part.shape[:-1], -1, n)[..., samples]


def library() -> Any:
    """Import tifffile.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import tifffile
    except ImportError as err:
        raise MissingDependencyError("tifffile", "scenes", "a TIFF stack") from err
    return tifffile
