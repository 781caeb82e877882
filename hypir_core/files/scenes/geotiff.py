"""Rasters with bands and a place on the ground: read in windows and written in blocks by rasterio."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ImageFileError, MissingDependencyError
from ...version import VERSION
from .axes import Wanted
from .cell import Cell
from .grid import Placement
from .result import Result
from .scene import ArrayScene, closed_on_error

CACHE_MB = 64
"""Of decoded blocks, which GDAL keeps; its own default is a part of the machine's memory."""

BLOCK_PX = 512
"""Side of the blocks that are written."""

LEAST_BLOCK_PX = 64

ROW_OF_BLOCKS_BYTES = 1 << 25
"""A row of blocks is in memory while it is written: those of wide rasters are lower."""


def cell_of(path: Path) -> Cell | None:
    """Return the side of a raster's cells, of a turned one, too; None where it lies nowhere.

    Raises:
        ImageFileError: it cannot be read.
        MissingDependencyError: rasterio is not installed.
    """
    with _opened(path) as file:
        place = file.transform
        if place.is_identity:
            return None
        unit = "" if file.crs is None else "°" if file.crs.is_geographic else str(file.crs.linear_units)
        return Cell(hypot(place.a, place.d), {"metre": "m", "unknown": ""}.get(unit, unit))


def open_geotiff(path: Path, wanted: Wanted) -> ArrayScene:
    """Open a raster; an alpha band is its mask.

    Raises:
        ImageFileError: it cannot be read, or has no such band.
        MissingDependencyError: rasterio is not installed.
    """
    file = _opened(path)
    with closed_on_error(file.close):
        if file.count == 0:
            raise ImageFileError(
                f"{path}: expected a raster with bands, got {len(file.subdatasets)} sub-datasets"
            )
        colors = [color.name for color in file.colorinterp]
        alpha = colors.index("alpha") if "alpha" in colors else None
        plain = [i for i in range(file.count) if i != alpha]
        flags = {flag.name for band in file.mask_flag_enums for flag in band}
        masked = alpha is not None or ("per_dataset" in flags and "nodata" not in flags)
        notes = []
        if file.rpcs is not None:
            notes.append("the rational polynomials (RPC) are left out: they describe the coarse cells")
        if file.transform.is_identity and not file.gcps[0]:
            notes.append("the file does not say where it lies on the ground")
        return ArrayScene(
            path,
            _Bands(file, plain),
            "cyx",
            bands=wanted.bands,
            names=[file.descriptions[i] or "" for i in plain],
            nodata=file.nodata,
            placement=_placement(file, plain),
            notes=notes,
            mask=_mask_of(file) if masked else None,
            close=file.close,
        )


def write_geotiff(path: Path, result: Result) -> None:
    """Write a result as a tiled, deflated GeoTIFF, BigTIFF where it needs to be.

    Raises:
        ImageFileError: it has more axes than two.
        MissingDependencyError: rasterio is not installed.
    """
    rasterio = library()
    grid, placement = result.grid, result.placement
    height, width = grid.sizes
    high = BLOCK_PX
    while (
        high > LEAST_BLOCK_PX and high * width * len(grid.bands) * grid.dtype.itemsize > ROW_OF_BLOCKS_BYTES
    ):
        high //= 2
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": len(grid.bands),
        "dtype": grid.dtype.name,
        "nodata": grid.nodata,
        "compress": "deflate",
        "predictor": 3 if grid.dtype.kind == "f" else 2,
        "zlevel": 6,
        "BIGTIFF": "IF_SAFER",
    }
    if grid.dtype.itemsize == 8:
        profile["predictor"] = 1
    if min(height, width) >= 16:
        profile |= {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": high}
    if placement.affine is not None:
        profile["transform"] = rasterio.Affine(*placement.affine)
    if placement.crs is not None:
        profile["crs"] = rasterio.crs.CRS.from_wkt(placement.crs)
    with _gdal(), rasterio.open(path, "w", **profile) as file:
        _describe(file, result)
        for top in range(0, height, high):
            rows = min(high, height - top)
            window = rasterio.windows.Window(0, top, width, rows)
            file.write(result.part(0, top, top + rows), window=window)
            if result.holds_mask:
                file.write_mask(result.valid(0, top, top + rows), window=window)


def _describe(file: Any, result: Result) -> None:
    about: Mapping[str, Any] = result.placement.about.get("geotiff", {})
    file.update_tags(**about.get("tags", {}), **result.text)
    file.update_tags(TIFFTAG_SOFTWARE=f"onestep-restore {VERSION}")
    for number, name in enumerate(result.grid.bands, 1):
        if name:
            file.set_band_description(number, name)
    places = result.places
    if places is None:
        return
    for name in ("scales", "offsets", "units", "colorinterp"):
        of_all = about.get(name, ())
        if len(of_all) and (name != "colorinterp" or not (set(of_all) - _plain_colors())):
            setattr(file, name, tuple(of_all[i] for i in places))
    if (gcps := about.get("gcps")) is not None:
        rasterio = library()
        points, crs = gcps
        y, x = (result.factors[axis] for axis in "yx")
        moved = [
            rasterio.control.GroundControlPoint(row=p.row * y, col=p.col * x, x=p.x, y=p.y, z=p.z)
            for p in points
        ]
        file.gcps = (moved, crs)


def _plain_colors() -> set[Any]:
    rasterio = library()
    return {
        getattr(rasterio.enums.ColorInterp, name) for name in ("gray", "red", "green", "blue", "undefined")
    }


def _placement(file: Any, plain: Sequence[int]) -> Placement:
    about: dict[str, Any] = {
        "tags": {k: v for k, v in file.tags().items() if k.upper() == k},
        "scales": tuple(file.scales[i] for i in plain),
        "offsets": tuple(file.offsets[i] for i in plain),
        "units": tuple(file.units[i] or "" for i in plain),
        "colorinterp": tuple(file.colorinterp[i] for i in plain),
    }
    if file.gcps[0]:
        about["gcps"] = file.gcps
    return Placement(
        crs=None if file.crs is None else file.crs.to_wkt(),
        affine=None if file.transform.is_identity else tuple(file.transform)[:6],
        about={"geotiff": about},
    )


def _opened(path: Path) -> Any:
    rasterio = library()
    try:
        with _gdal():
            return rasterio.open(path)
    except rasterio.errors.RasterioError as err:
        why = str(err).removeprefix(f"{path}: ").removeprefix(f"'{path}' ")
        raise ImageFileError(f"{path}: expected a raster, but {why}; copy it again from its source") from err


class _Bands:
    """Bands of an open raster as an array [c y x]."""

    def __init__(self, file: Any, plain: Sequence[int]):
        self._file, self._plain = file, plain
        self.shape = (len(plain), file.height, file.width)
        self.dtype = np.dtype(np.result_type(*[np.dtype(file.dtypes[i]) for i in plain]))

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        channels, rows, columns = key
        numbers = [i + 1 for i in self._plain[channels]]
        with _gdal():
            return self._file.read(numbers, window=_window(rows, columns), out_dtype=self.dtype)


def _mask_of(file: Any) -> Any:
    def mask(spans: tuple[slice, ...]) -> np.ndarray:
        with _gdal():
            return file.dataset_mask(window=_window(*spans)) > 0

    return mask


def _window(rows: slice, columns: slice) -> Any:
    return (rows.start, rows.stop), (columns.start, columns.stop)


@contextmanager
def _gdal() -> Iterator[None]:
    """Bound GDAL's cache; a raster that lies nowhere is no reason to warn."""
    rasterio = library()
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_TIFF_INTERNAL_MASK=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def library() -> Any:
    """Import rasterio.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import rasterio
        import rasterio.control
        import rasterio.enums
        import rasterio.windows
    except ImportError as err:
        raise MissingDependencyError("rasterio", "scenes", "a raster of several bands") from err
    return rasterio
