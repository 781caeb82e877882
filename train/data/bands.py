"""Files with any number of bands: TIFF by tifffile, and npy arrays [H W C]."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from hypir_core.errors import ImageFileError, MissingDependencyError
from hypir_core.files.decode import DECODE_ERRORS

_NPY = b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AXES = {"YX": (0, 1, None), "YXS": (0, 1, 2), "YXC": (0, 1, 2), "SYX": (1, 2, 0), "CYX": (1, 2, 0)}
"""Axes of a TIFF → which of them are rows, columns and bands."""
DEPTHS = ("uint8", "uint16", "float32")


def read_bands(file: Path | BinaryIO, channels: int, name: str = "") -> Tensor:
    """Read a file of exactly `channels` bands as [channels h w]: uint8, uint16, or float32 in [0,1].

    Raises:
        ImageFileError: it cannot be read, has other bands or another depth; begins with `name` or the path.
        MissingDependencyError: a TIFF without tifffile.
    """
    shown = name or str(file)
    try:
        array_hwc = _array(file)
        _check(array_hwc.shape[2], array_hwc.dtype, channels)
    except ImageFileError as err:
        raise ImageFileError(f"{shown}: {err}") from err
    if array_hwc.dtype.kind == "f" and not ((array_hwc >= 0) & (array_hwc <= 1)).all():
        raise ImageFileError(f"{shown}: has values outside [0, 1], or NaN; divide by the value that means 1")
    native = array_hwc.astype(array_hwc.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.ascontiguousarray(native.transpose(2, 0, 1)))


def read_bands_size(file: Path | BinaryIO, channels: int) -> tuple[int, int]:
    """Return (width, height) from the header alone.

    Raises:
        ImageFileError: it cannot be read, has other bands or another depth; says why, without a name.
    """
    try:
        height, width, bands, dtype = _facts(file)
    except DECODE_ERRORS as err:
        raise ImageFileError(f"cannot be read ({err})") from err
    _check(bands, dtype, channels)
    return width, height


def _check(bands: int, dtype: Any, channels: int) -> None:
    if bands != channels:
        raise ImageFileError(f"has {bands} bands, the generator asks for {channels}")
    if np.dtype(dtype).newbyteorder("=").name not in DEPTHS:
        raise ImageFileError(f"has samples of {dtype}; expected {', '.join(DEPTHS)}")


def _array(file: Path | BinaryIO) -> np.ndarray:
    try:
        if _starts(file, _NPY):
            return _hwc(np.load(_at_start(file), allow_pickle=False))
        with _tiff(file) as opened:
            series = opened.series[0]
            rows, columns, bands = _axes_of(series)
            array = series.asarray()
    except DECODE_ERRORS as err:
        raise ImageFileError(f"cannot be decoded ({err})") from err
    order = [rows, columns, *(() if bands is None else (bands,))]
    return _hwc(array.transpose(order))


def _facts(file: Path | BinaryIO) -> tuple[int, int, int, Any]:
    """Return height, width, bands and sample type."""
    if _starts(file, _NPY):
        if isinstance(file, Path):
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        else:
            array = np.load(_at_start(file), allow_pickle=False)
        height, width, bands = _hwc(array).shape
        return height, width, bands, array.dtype
    with _tiff(file) as opened:
        series = opened.series[0]
        rows, columns, bands_at = _axes_of(series)
        bands = 1 if bands_at is None else series.shape[bands_at]
        return series.shape[rows], series.shape[columns], bands, series.dtype


def _axes_of(series: Any) -> tuple[int, int, int | None]:
    if series.axes not in _AXES:
        raise ImageFileError(f"has the axes {series.axes}; expected one of {', '.join(_AXES)}")
    return _AXES[series.axes]


def _hwc(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3:
        raise ImageFileError(f"has the shape {list(array.shape)}; expected [H W] or [H W C]")
    return array


def _tiff(file: Path | BinaryIO) -> Any:
    if not _starts(file, *_TIFF):
        raise ImageFileError("holds no bands; expected a TIFF or npy file")
    try:
        import tifffile
    except ImportError as err:
        raise MissingDependencyError("tifffile", "cli", "pictures with bands") from err
    return tifffile.TiffFile(_at_start(file))


def _starts(file: Path | BinaryIO, *signatures: bytes) -> bool:
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return opened.read(8).startswith(signatures)
    file.seek(0)
    return file.read(8).startswith(signatures)


def _at_start(file: Path | BinaryIO) -> Any:
    if not isinstance(file, Path):
        file.seek(0)
        return io.BytesIO(file.read())
    return file
