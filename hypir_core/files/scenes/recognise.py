"""Which files are scenes: by what they are, and by the network that is to see them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...errors import HypirError
from ..formats import HEAD_BYTES, is_picture_path, recognise
from ..header import read_header
from ..metadata.tiff_tags import in_file, integers_of, read_directory, read_layout
from ..opening import open_file
from ..tiff_pages import TiffPages
from .axes import Wanted
from .catalog import SCENES, scene_ending
from .dicom import is_dicom
from .zarr_store import is_zarr

_GEO_KEYS, _NODATA, _BITS, _SAMPLE_FORMAT, _NEW_SUBFILE = 34735, 42113, 258, 339, 254
_MASK = 4
_PHOTO_CHANNELS = (1, 3)
"""Of networks for photos. Four colours of a picture are CMYK; four bands do not call themselves a picture."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What tells a raster from a photo, in a TIFF's first two directories."""

    georeferenced: bool
    nodata: bool
    masked: bool
    signed: bool
    floating: bool


def is_scene_folder(path: Path, *, by_name: bool = False) -> bool:
    """Say whether a folder is one scene: a Zarr store, or DICOM slices without a picture among them.

    Args:
        path: of the folder.
        by_name: slices without an ending are not looked into: quick, for whoever walks many folders.
    """
    try:
        if is_zarr(path):
            return True
        return path.is_dir() and _is_series(path, by_name=by_name)
    except OSError:
        return False  # whoever lists it says why it cannot be


def _is_series(path: Path, *, by_name: bool) -> bool:
    found = False
    with os.scandir(path) as entries:
        for entry in entries:
            place = Path(entry.path)
            if is_picture_path(place):
                return False
            found = found or ((bool(place.suffix) or not by_name) and is_dicom(place))
    return found


def is_scene_path(path: Path) -> bool:
    """Say whether a file or folder is called as a scene of a kind that no picture is."""
    return scene_ending(path) is not None and not path.name.startswith("._")


def scene_format(path: Path, wanted: Wanted, *, file_values: bool) -> str | None:
    """Return the name of the scene format of a file or folder; None for pictures, and for what cannot be read.

    A TIFF is a scene if it has other bands than grey or RGB with alpha, numbers that no picture has, a nodata value or
    a mask, pages that are slices of one stack; or if the network takes other channels than a photo's, a third axis, or
    the file's own values.

    Args:
        path: exists.
        wanted: what a person says of bands and axes, and the network's axes and channels.
        file_values: whether the network takes the file's own numbers.
    """
    if path.is_dir():
        return "zarr" if is_zarr(path) else "dicom" if is_scene_folder(path) else None
    ending = scene_ending(path)
    if ending is not None:
        return next(e.name for e in SCENES if ending.lower() in e.load().endings)
    try:
        with open_file(path) as file:
            if recognise(file.read(HEAD_BYTES)) != "tiff":
                return None
            header = read_header(file)
            if header is None or header.tiff is None or header.tiff.is_raw:
                return None
            facts = _facts(path)
    except (HypirError, OSError, ValueError):
        return None  # the reader of pictures says what is wrong with it
    return _of_tiff(header.tiff, facts, wanted, file_values=file_values)


def _of_tiff(found: TiffPages, facts: _Facts, wanted: Wanted, *, file_values: bool) -> str | None:
    page = found.pages[0]
    several = found.slices > 1 or len(found.pages) > 1
    if wanted.axes or found.slices > 1 or (several and wanted.dims > 2):
        return "stack"
    colors = page.samples - page.has_alpha
    strange = not page.is_picture or colors not in (*_PHOTO_CHANNELS, 4) or facts.signed or page.bits > 32
    beyond = facts.floating and facts.georeferenced
    other = bool(wanted.bands) or file_values or wanted.channels not in (0, *_PHOTO_CHANNELS)
    plain = page.samples == 1 and not (facts.georeferenced or facts.nodata or facts.masked)
    if file_values and plain:
        return "stack"  # one plane of a microscope: its dialect and the size of a pixel are kept
    photo = page.is_picture and colors == 3 and not (facts.georeferenced or wanted.bands)
    if file_values and wanted.channels == 1 and photo:
        return None  # colours of a photo are no bands, which a network of one channel takes one by one
    if strange or beyond or other or facts.nodata or facts.masked:
        return "stack" if several and not facts.georeferenced else "geotiff"
    return None


def _facts(path: Path) -> _Facts:
    with open_file(path) as file:
        read_at = in_file(file)
        layout, start = read_layout(read_at)
        first, following = read_directory(read_at, layout, start)
        masked = False
        if following:
            second, _ = read_directory(read_at, layout, following)
            if _NEW_SUBFILE in second:
                masked = bool(integers_of(read_at, layout, second[_NEW_SUBFILE])[0] & _MASK)
        kinds = integers_of(read_at, layout, first[_SAMPLE_FORMAT]) if _SAMPLE_FORMAT in first else (1,)
        bits = max(integers_of(read_at, layout, first[_BITS])) if _BITS in first else 1
    signed = 2 in kinds or (1 in kinds and bits == 32)
    return _Facts(
        georeferenced=_GEO_KEYS in first,
        nodata=_NODATA in first,
        masked=masked,
        signed=signed,
        floating=3 in kinds,
    )
