"""The one list of scene formats: adding one is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...atomic import explain_os_error
from ...errors import HypirError, ImageFileError
from ...registry import Registry, lazy
from ..decoded import DECODE_ERRORS
from .axes import Wanted
from .grid import bands_by_name
from .result import Order, SceneSink, Writer
from .scene import ArrayScene, Scene

Opener = Callable[[Path, Wanted], ArrayScene]


@dataclass(frozen=True, kw_only=True)
class SceneFormat:
    """How one format is read and written."""

    endings: tuple[str, ...]
    """Of names, lower case; the first is the one that is written."""
    open: Callable[[], Opener]
    """Import what opens a file."""
    writer: Callable[[], Writer] | None
    """Import what writes one; None for formats that are only read."""
    axes: tuple[str, ...] | None = None
    """Axes that it can hold; None: any."""
    short: tuple[str, ...] = ()
    """Endings of names whose files hold no integers of 64 bits."""


SCENES: Registry[SceneFormat] = Registry("scene format")


def _add(
    name: str,
    endings: str,
    opener: str,
    writer: str | None,
    summary: str,
    *,
    axes: tuple[str, ...] | None = None,
    short: tuple[str, ...] = (),
) -> None:
    entry = SceneFormat(
        endings=tuple(endings.split()),
        open=lazy(opener, __package__),
        writer=None if writer is None else lazy(writer, __package__),
        axes=axes,
        short=short,
    )
    SCENES.add(name, entry, summary=summary)


_add(
    "geotiff",
    ".tif .tiff",
    ".geotiff:open_geotiff",
    ".geotiff:write_geotiff",
    "rasters with bands and coordinates (rasterio)",
    axes=("yx",),
)
_add(
    "stack",
    ".tif .tiff .ome.tif .ome.tiff",
    ".tiff_stack:open_stack",
    ".tiff_stack:write_stack",
    "TIFF, OME-TIFF and ImageJ stacks (tifffile)",
    short=(".ome.tif", ".ome.tiff"),
)
_add("nifti", ".nii .nii.gz", ".nifti:open_nifti", ".nifti:write_nifti", "NIfTI volumes (nibabel)")
_add("zarr", ".zarr", ".zarr_store:open_zarr", ".zarr_store:write_zarr", "Zarr and OME-Zarr (zarr)")
_add(
    "hdf5",
    ".h5 .hdf5 .hdf .he5",
    ".hdf5:open_hdf5",
    ".hdf5:write_hdf5",
    "one data set of an HDF5 file (h5py)",
)
_add("dicom", ".dcm .dicom", ".dicom:open_dicom", None, "a series of DICOM slices, read only (pydicom)")

OWN_ENDINGS = tuple(
    sorted(
        {end for entry in SCENES if entry.name not in {"geotiff", "stack"} for end in entry.load().endings},
        key=len,
        reverse=True,
    )
)
"""Endings that no picture format has; the longest first."""


def open_scene(path: Path | str, wanted: Wanted | None = None, *, format_name: str) -> Scene:
    """Open a scene for reading; a process that gets it pickled opens it anew.

    Args:
        path: of the file or folder.
        wanted: bands, axes, data set.
        format_name: a name in `SCENES`; see `recognise.scene_format`.

    Raises:
        ImageFileError: it cannot be read, or lacks what is wanted.
        MissingDependencyError: the format's library is not installed; the message names the extra.
    """
    path, wanted = Path(path), wanted or Wanted()
    if not path.exists():
        raise ImageFileError(f"{path}: expected a scene, got no such file; check the path")
    opened = SCENES.get(format_name).open()
    try:
        scene = opened(path, wanted)
    except HypirError:
        raise
    except DECODE_ERRORS as err:
        why = " ".join(str(err).split()) or type(err).__name__
        raise ImageFileError(
            f"{path}: expected a scene, but its header cannot be read ({why}); copy it again from its source"
        ) from err
    notes: tuple[str, ...] = ()
    if wanted.named and not wanted.bands:
        try:
            order, notes = bands_by_name(scene.grid.bands, wanted.named, path)
        finally:
            scene.close()
        scene = opened(path, replace(wanted, bands=order))
    elif wanted.channels > 1 and not wanted.bands and not any(scene.grid.bands):
        notes = ("the file does not name its bands; they were taken in its order",)
    scene.notes = (*scene.notes, *notes)
    scene.reopen = (open_again, (path, wanted, format_name))
    return scene


def open_again(path: Path, wanted: Wanted, format_name: str) -> Scene:
    """Open what another process had open."""
    return open_scene(path, wanted, format_name=format_name)


def format_for_scene(path: Path, scene: Scene, own: str) -> str:
    """Return the format that an output's name asks for; `own` is the input's.

    Raises:
        ImageFileError: no format has that ending, or it cannot hold these axes.
    """
    name = path.name.lower()
    fitting = [entry for entry in SCENES if any(name.endswith(end) for end in entry.load().endings)]
    writable = [entry for entry in fitting if entry.load().writer is not None]
    if not writable:
        endings = sorted({end for entry in SCENES if entry.load().writer for end in entry.load().endings})
        raise ImageFileError(
            f"{path}: expected a name that ends in one of {', '.join(endings)}, got {path.suffix or 'none'!r}; a scene "
            "is not written as a picture"
        )
    named = [entry for entry in writable if entry.name == own]
    for entry in (*named, *writable):
        held = entry.load().axes
        if held is None or scene.grid.axes in held:
            return entry.name
    raise ImageFileError(
        f"{path}: expected a format that holds the axes {scene.grid.axes.upper()}, got {writable[0].name}; "
        "write .ome.tif, .nii, .zarr or .h5"
    )


def open_scene_sink(
    path: Path | str,
    scene: Scene,
    factors: Mapping[str, int],
    *,
    format_name: str,
    order: Order,
    bands: tuple[str, ...] | None = None,
    dtype: np.dtype | None = None,
    key: str = "",
    force: bool = False,
) -> SceneSink:
    """Begin the result of a scene; nothing bears the name `path` until `commit`.

    Args:
        path: the new file or folder.
        scene: what it is made from; number format, nodata, coordinates and mask are carried over.
        factors: how much larger the result is along every axis.
        format_name: from `format_for_scene`.
        order: in which order rows come.
        bands: names of the result's channels where they are not the scene's.
        dtype: of the stored numbers where it is not the scene's.
        key: hash of all that the result depends on, to go on where a killed run was.
        force: overwrite.

    Raises:
        ImageFileError: it exists, is the input, cannot be written, cannot hold the numbers, or the disk has no room.
    """
    path = Path(path)
    _refuse(path, scene.path, force=force)
    entry = SCENES.get(format_name)
    assert entry.writer is not None
    same = bands is None or len(bands) == scene.channels
    grid = scene.grid.enlarged(factors, scene.grid.bands if bands is None else bands)
    grid = grid if dtype is None else replace(grid, dtype=dtype)
    if grid.dtype.kind in "iu" and grid.dtype.itemsize > 4 and path.name.lower().endswith(entry.short):
        raise ImageFileError(
            f"{path}: expected a format that holds {grid.dtype}, got OME-TIFF, which does not; write .tif or .zarr, or "
            "say --bits 32"
        )
    return SceneSink(
        path=path,
        grid=grid,
        placement=scene.placement.enlarged(factors),
        source=scene,
        factors=dict(factors),
        order=order,
        writer=entry.writer(),
        places=scene.places if same else None,
        key=key,
    )


def _refuse(path: Path, source: Path, *, force: bool) -> None:
    try:
        if not path.exists():
            return
        if source.samefile(path):
            raise ImageFileError(
                f"{path}: expected an output that is not an input, got the input {source}; choose another name"
            )
    except (OSError, ValueError) as err:
        raise ImageFileError(explain_os_error(path, err)) from err
    if not force:
        raise ImageFileError(f"{path} exists; use --force to overwrite it, or choose another output")


def result_name(place: Path) -> Path | None:
    """Return what the result of a scene is called in an output folder; None for what is called as a picture.

    A DICOM series becomes a NIfTI volume.
    """
    ending = scene_ending(place)
    if ending is None:
        return None
    stem = place.name[: -len(ending)]
    entry = next(entry for entry in SCENES if ending.lower() in entry.load().endings)
    return place.with_name(stem + (ending if entry.load().writer is not None else ".nii"))


def scene_ending(path: Path) -> str | None:
    """Return the ending of a name that only scenes have, or None."""
    name = path.name.lower()
    return next((path.name[-len(end) :] for end in OWN_ENDINGS if name.endswith(end)), None)
