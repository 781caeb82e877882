"""A series of DICOM slices as a volume, read only; pydicom reads the files.

Slices are ordered by their position along the normal of the slice, never by their names. Source: DICOM PS3.3, C.7.6.2
(image plane) and C.11.1 (rescale).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ImageFileError, MissingDependencyError
from .axes import Wanted
from .grid import Placement
from .scene import ArrayScene

ENDINGS = (".dcm", ".dicom", ".ima")
_UNEVEN = 0.01
"""Steps between slices may differ by so much of their mean."""


def open_dicom(path: Path, wanted: Wanted) -> ArrayScene:
    """Open a folder of slices of one series, or one file.

    Raises:
        ImageFileError: there is no slice, more than one series, or slices of different sizes.
        MissingDependencyError: pydicom is not installed.
    """
    pydicom = library()
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if is_dicom(p))
    heads = []
    for file in files:
        try:
            heads.append((file, pydicom.dcmread(file, stop_before_pixels=True)))
        except (pydicom.errors.InvalidDicomError, OSError, ValueError) as err:
            raise ImageFileError(f"{file}: expected a DICOM slice, but {err}; leave it out") from err
    heads = [(file, head) for file, head in heads if "Rows" in head]
    if not heads:
        raise ImageFileError(
            f"{path}: expected DICOM slices, got none; name the folder that holds the series"
        )
    _check_one_series(path, [head for _, head in heads])
    if len(heads) == 1 and int(heads[0][1].get("NumberOfFrames", 1)) > 1:
        return _many_frames(path, heads[0], wanted)
    heads, step, notes = _ordered(path, heads)
    first = heads[0][1]
    scales = {(float(h.get("RescaleSlope", 1)), float(h.get("RescaleIntercept", 0))) for _, h in heads}
    slope, intercept = scales.pop() if len(scales) == 1 else (1.0, 0.0)
    array = _Slices([file for file, _ in heads], first, rescaled=bool(scales))
    matrix, spacing = _placed(first, step)
    return ArrayScene(
        path,
        array,
        "zyx",
        bands=wanted.bands,
        slope=slope,
        intercept=intercept,
        placement=Placement(matrix=matrix, spacing=spacing, units=dict.fromkeys("xyz", "mm")),
        notes=notes,
    )


def _check_one_series(path: Path, heads: Sequence[Any]) -> None:
    series = {str(head.get("SeriesInstanceUID", "")) for head in heads}
    if len(series) > 1:
        said = sorted({str(head.get("SeriesDescription", "unnamed")) for head in heads})
        raise ImageFileError(
            f"{path}: expected one series, got {len(series)} ({', '.join(said)}); put each into a folder of its own"
        )
    if any(int(head.get("SamplesPerPixel", 1)) != 1 for head in heads):
        raise ImageFileError(f"{path}: expected grey slices, got colours; export them as PNG or TIFF")
    sizes = {(int(head.Rows), int(head.Columns)) for head in heads}
    if len(sizes) > 1:
        said = ", ".join(f"{w}×{h}" for h, w in sorted(sizes))
        raise ImageFileError(f"{path}: expected slices of one size, got {said}; leave the others out")


def _ordered(path: Path, heads: list[Any]) -> tuple[list[Any], np.ndarray | None, tuple[str, ...]]:
    """Return slices in the order of their positions, the step between two in millimetres, and notes."""
    if not all("ImagePositionPatient" in head and "ImageOrientationPatient" in head for _, head in heads):
        heads = sorted(heads, key=lambda one: int(one[1].get("InstanceNumber") or 0))
        return heads, None, ("the slices do not say where they lie: they are ordered by their numbers",)
    turned = np.array(heads[0][1].ImageOrientationPatient, np.float64)
    normal = np.cross(turned[:3], turned[3:])
    at = {file: np.array(head.ImagePositionPatient, np.float64) for file, head in heads}
    heads = sorted(heads, key=lambda one: float(at[one[0]] @ normal))
    if len(heads) == 1:
        return heads, normal * float(heads[0][1].get("SliceThickness") or 1), ()
    steps = np.diff([at[file] @ normal for file, _ in heads])
    if (steps <= 0).any():
        twice = next(file for (file, _), step in zip(heads[1:], steps, strict=True) if step <= 0)
        raise ImageFileError(f"{path}: expected one slice at each position, got two at that of {twice.name}")
    uneven = np.abs(steps - steps.mean()).max() > _UNEVEN * steps.mean()
    notes = (
        (f"the slices lie {steps.min():g} to {steps.max():g} mm apart: the volume is taken as even",)
        if uneven
        else ()
    )
    return heads, (at[heads[-1][0]] - at[heads[0][0]]) / (len(heads) - 1), notes


def _placed(head: Any, step: np.ndarray | None) -> tuple[Any, dict[str, float]]:
    """Return the matrix from (x, y, z) to millimetres right, anterior, superior (DICOM counts left, posterior)."""
    rows, columns = (float(v) for v in head.get("PixelSpacing", (1, 1)))
    if step is None:
        return None, {"x": columns, "y": rows, "z": float(head.get("SliceThickness") or 1)}
    turned = np.array(head.ImageOrientationPatient, np.float64)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = turned[:3] * columns, turned[3:] * rows, step
    matrix[:3, 3] = np.array(head.ImagePositionPatient, np.float64)
    matrix[:2] *= -1
    found = tuple(tuple(float(v) for v in row) for row in matrix)
    return found, {"x": columns, "y": rows, "z": float(np.linalg.norm(step))}


def _many_frames(path: Path, one: Any, wanted: Wanted) -> ArrayScene:
    file, head = one
    slope, intercept = float(head.get("RescaleSlope", 1)), float(head.get("RescaleIntercept", 0))
    pydicom = library()
    frames = pydicom.dcmread(file).pixel_array
    _, spacing = _placed(head, None)
    return ArrayScene(
        path,
        frames,
        "zyx",
        bands=wanted.bands,
        slope=slope,
        intercept=intercept,
        placement=Placement(spacing=spacing, units=dict.fromkeys("xyz", "mm")),
        notes=("a file of many frames is read whole",),
    )


class _Slices:
    """Files of one slice each as an array [z y x]; the last that was read is kept."""

    def __init__(self, files: Sequence[Path], head: Any, *, rescaled: bool):
        self._files, self._rescaled = files, rescaled
        self.shape = (len(files), int(head.Rows), int(head.Columns))
        signed = int(head.get("PixelRepresentation", 0)) == 1
        bits = int(head.BitsAllocated)
        self.dtype = np.dtype(np.float32 if rescaled else f"{'i' if signed else 'u'}{max(1, bits // 8)}")
        self._kept: tuple[int, np.ndarray] | None = None

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        slices, rows, columns = key
        return np.stack([self._slice(i)[rows, columns] for i in range(slices.start, slices.stop)])

    def _slice(self, number: int) -> np.ndarray:
        if self._kept is None or self._kept[0] != number:
            pydicom = library()
            try:
                head = pydicom.dcmread(self._files[number])
                pixels = head.pixel_array
            except Exception as err:  # decoders raise whatever they like
                raise ValueError(f"{self._files[number].name}: {err}") from err
            if self._rescaled:
                pixels = pixels * float(head.get("RescaleSlope", 1)) + float(head.get("RescaleIntercept", 0))
            self._kept = (number, pixels)
        return self._kept[1]


def is_dicom(path: Path) -> bool:
    """Say whether a file is a DICOM slice, by its ending or its mark."""
    if not path.is_file() or path.name.startswith("."):
        return False
    if path.suffix.lower() in ENDINGS:
        return True
    if path.suffix:
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def library() -> Any:
    """Import pydicom.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import pydicom
        import pydicom.errors
    except ImportError as err:
        raise MissingDependencyError("pydicom", "volumes", "a DICOM series") from err
    return pydicom
