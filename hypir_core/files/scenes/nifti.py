"""Volumes as NIfTI-1 and NIfTI-2, plain or gzipped; nibabel reads and makes the headers.

Numbers are read and written as they are stored, slice by slice: nibabel itself would hold the whole volume. Source:
nifti1.h (NIfTI-1.1), dimensions x y z t u; the affine speaks of centres.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...errors import ImageFileError, MissingDependencyError
from ..decoded import DECODE_ERRORS
from ..opening import open_file
from .axes import Wanted, letters
from .flat import FlatArray, Reversed
from .grid import Placement
from .result import Result
from .scene import ArrayScene, closed_on_error

_ORDER = "xyztc"
_SHORT = 32767
"""Longest axis of NIfTI-1."""
_UNITS = {
    "mm": "mm",
    "m": "m",
    "um": "µm",
    "micron": "µm",
    "meter": "m",
    "sec": "s",
    "msec": "ms",
    "usec": "µs",
}
ROWS = 512
"""Rows that are written at a time."""


def open_nifti(path: Path, wanted: Wanted) -> ArrayScene:
    """Open a volume.

    Raises:
        ImageFileError: it cannot be read, or has no such band.
        MissingDependencyError: nibabel is not installed.
    """
    nibabel = library()
    open_file(path).close()
    try:
        image = nibabel.load(path)
    except (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        *DECODE_ERRORS,
    ) as err:
        raise ImageFileError(
            f"{path}: expected a NIfTI volume, but {' '.join(str(err).split())}; copy it again from its source"
        ) from err
    header: Any = image.header
    shape = tuple(int(n) for n in header.get_data_shape())
    order = letters(wanted.axes, shape, path) if wanted.axes else _order(shape, path)
    file, notes = _numbers(path)
    with closed_on_error(file.close):
        stored: Any = image.dataobj  # the header itself forgets both on reading
        array = Reversed(FlatArray(file, int(stored.offset), shape[::-1], header.get_data_dtype()))
        place, time = header.get_xyzt_units()
        zooms = [float(z) for z in header.get_zooms()]
        spatial = {
            axis: (zoom, time if axis == "t" else place) for axis, zoom in zip(order, zooms, strict=False)
        }
        return ArrayScene(
            path,
            array,
            order,
            bands=wanted.bands,
            slope=float(stored.slope),
            intercept=float(stored.inter),
            placement=Placement(
                matrix=tuple(tuple(float(v) for v in row) for row in image.affine),
                spacing={axis: zoom for axis, (zoom, _) in spatial.items() if axis not in "c1"},
                units={axis: _UNITS[unit] for axis, (_, unit) in spatial.items() if unit in _UNITS},
                about={"nifti": header},
            ),
            notes=notes,
            close=file.close,
        )


def write_nifti(path: Path, result: Result) -> None:
    """Write a result as a single NIfTI file, gzipped if its name ends so.

    Raises:
        MissingDependencyError: nibabel is not installed.
    """
    grid = result.grid
    header = _header(result)
    lengths = dict(zip(grid.axes, grid.sizes, strict=True))
    slices, rows = lengths.get("z", 1), lengths["y"]
    with _opened(path, packed=result.target.name.lower().endswith(".gz")) as file:
        header.write_to(file)
        file.write(b"\0" * (int(header.get_data_offset()) - file.tell()))
        for channel in range(len(grid.bands)):
            for plane in range(lengths.get("t", 1) * slices):
                for top in range(0, rows, ROWS):
                    part = result.part(plane, top, min(top + ROWS, rows))
                    file.write(np.ascontiguousarray(part[channel]).data)


def _header(result: Result) -> Any:
    nibabel = library()
    grid, placement = result.grid, result.placement
    lengths = dict(zip(grid.axes, grid.sizes, strict=True))
    shape = [lengths.get(axis, 1) for axis in "xyzt"] + [len(grid.bands)]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    long = max(shape) > _SHORT
    made = nibabel.Nifti2Header if long else nibabel.Nifti1Header
    known = placement.about.get("nifti")
    header: Any = made.from_header(known) if known is not None else made()
    header.set_data_dtype(grid.dtype)
    header.set_data_shape(shape)
    zooms = [placement.spacing.get(axis, 1.0) for axis in "xyzt"][: len(shape)]
    header.set_zooms([*zooms, *[1.0] * (len(shape) - len(zooms))])
    matrix = np.diag([*zooms[:3], 1.0]) if placement.matrix is None else np.array(placement.matrix)
    codes = [int(header[code]) for code in ("sform_code", "qform_code")]
    if not any(codes) and placement.matrix is not None:
        codes = [1, 1] if known is None else [0, 0]
    header.set_sform(matrix, code=codes[0])
    header.set_qform(matrix, code=codes[1], strip_shears=True)
    if not any(codes):
        header.set_zooms([*zooms, *[1.0] * (len(shape) - len(zooms))])
    if known is None and placement.units.get("x") in {"mm", "µm"}:
        header.set_xyzt_units("mm" if placement.units["x"] == "mm" else "micron")
    slope, intercept = grid.slope, grid.intercept
    header.set_slope_inter(*((None, None) if (slope, intercept) == (1, 0) else (slope, intercept)))
    header["magic"] = header.single_magic
    header["cal_min"] = header["cal_max"] = 0
    header.set_data_offset(header.single_vox_offset)
    return header


@contextmanager
def _opened(path: Path, *, packed: bool) -> Iterator[Any]:
    if not packed:
        with path.open("wb") as file:
            yield file
        return
    with path.open("wb") as raw, gzip.GzipFile(path.name, "wb", 6, raw, mtime=0) as file:
        yield file


def _numbers(path: Path) -> tuple[BinaryIO, tuple[str, ...]]:
    """Return an open file of the plain numbers: a gzipped one is unpacked into a scratch file first."""
    name = path.name.lower()
    if name.endswith((".hdr", ".img")):
        return open_file(path.with_suffix(".img")), ()
    if not name.endswith(".gz"):
        return open_file(path), ()
    plain = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the scene
    try:
        with gzip.open(path, "rb") as packed:
            shutil.copyfileobj(packed, plain, 2**20)
    except (gzip.BadGzipFile, EOFError, zlib.error) as err:
        plain.close()
        raise ImageFileError(f"{path}: expected a complete gzip file, but {err}; copy it again") from err
    except OSError as err:
        plain.close()
        raise ImageFileError(
            f"{path}: expected to unpack it into {tempfile.gettempdir()}, but {err.strerror or err}; set TMPDIR to a "
            "folder with room for all of it, or unpack it yourself"
        ) from err
    return plain, ("the file is gzipped: it was unpacked into a scratch file, to read slices of it",)


def _order(shape: tuple[int, ...], path: Path) -> str:
    """Return x y z t u; trailing axes of one cell are left out."""
    used = len(shape)
    while used > 2 and shape[used - 1] == 1 and used > len(_ORDER):
        used -= 1
    if used > len(_ORDER) or used < 2:
        raise ImageFileError(
            f"{path}: expected 2 to {len(_ORDER)} axes, got {len(shape)}; say them with --axes"
        )
    return _ORDER[:used] + "1" * (len(shape) - used)


def library() -> Any:
    """Import nibabel.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import nibabel
    except ImportError as err:
        raise MissingDependencyError("nibabel", "volumes", "a NIfTI volume") from err
    return nibabel
