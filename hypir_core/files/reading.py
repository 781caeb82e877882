"""Read a picture file, or say in one line why it cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from ..errors import ImageFileError
from .decode import decode, page_count
from .decode_pillow import pillow_info
from .decoded import Decoded, UnsupportedPictureError
from .header import Header
from .metadata.jpeg_head import jpeg_pictures
from .metadata.reading import read_metadata, read_text_of
from .opening import checked_header, chosen_tiff_page, named_errors, open_file, undecodable, unreadable
from .picture import Picture

MAX_PIXELS = 16384 * 16384
"""Largest picture that is read unless the caller says otherwise."""


def read_picture(
    path: Path | str,
    *,
    page: int | None = None,
    bands: Literal["picture", "any"] = "picture",
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Read a picture: PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000, TGA, PPM or npy (float32 in [0,1]).

    Args:
        path: the file; its content decides the format.
        page: which page or frame, from 0; by default the first, and `Picture.notes` says that there are more.
            A stack (ImageJ, OME, tifffile) is refused unless a page is named.
        bands: ``picture``: grey, RGB or CMYK, with or without alpha, in [0,1]; anything else is refused.
            ``any``: any number of channels and any finite values, as the file has them; for training.
        max_pixels: larger pictures are refused from the header, before memory is taken for them.

    Raises:
        ImageFileError: missing, a folder, empty, not a picture, truncated or damaged, too large, of zero
            size, of more channels or slices than can be kept, without such a page, with NaN, infinite or
            out-of-range values, or not readable by this user. A truncated JPEG is read as far as it goes.
        MissingDependencyError: a 16-bit PNG or a deep TIFF without the extra ``cli``.
    """
    return _read(Path(path), page, any_bands=bands == "any", max_pixels=max_pixels)


def pages(path: Path | str) -> int:
    """Return how many pages (TIFF) or frames (GIF, PNG, WebP, AVIF) a file has; 1 for other formats.

    Raises:
        ImageFileError: as for `read_picture`.
    """
    path = Path(path)
    with open_file(path) as file:
        header = checked_header(path, file, max_pixels=None)
        with named_errors(path, header):
            return page_count(file, header)


def read_picture_of(
    file: BinaryIO,
    name: str,
    *,
    bands: Literal["picture", "any"] = "picture",
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Read a picture from an open file, for instance one that lies in an archive; `name` is for messages.

    Raises:
        ImageFileError: as for `read_picture`.
    """
    return _read_open(file, Path(name), None, any_bands=bands == "any", max_pixels=max_pixels)


def read_size_of(
    file: BinaryIO, name: str, *, bands: Literal["picture", "any"] = "picture"
) -> tuple[int, int]:
    """Return (height, width) of the upright picture in an open file, from its header alone.

    Raises:
        ImageFileError: it is no picture, or none that `read_picture` would read.
    """
    path = Path(name)
    header = checked_header(path, file, max_pixels=None)
    stored = chosen_tiff_page(path, header, None, any_bands=bands == "any")
    with named_errors(path, header):
        metadata = read_metadata(file, header.format, directory=stored.offset if stored else None)
    if metadata.orientation >= 5:
        return header.width_px, header.height_px
    return header.height_px, header.width_px


def _read(path: Path, page: int | None, *, any_bands: bool, max_pixels: int) -> Picture:
    with open_file(path) as file:
        return _read_open(file, path, page, any_bands=any_bands, max_pixels=max_pixels)


def _read_open(file: BinaryIO, path: Path, page: int | None, *, any_bands: bool, max_pixels: int) -> Picture:
    header = checked_header(path, file, max_pixels)
    stored = chosen_tiff_page(path, header, page, any_bands=any_bands)
    with named_errors(path, header):
        count = page_count(file, header)
        if not 0 <= (page or 0) < count:
            raise UnsupportedPictureError(
                f"expected a page from 0 to {count - 1}, got {page}; choose another"
            )
        metadata = read_metadata(
            file,
            header.format,
            directory=stored.offset if stored else None,
            pillow_info=pillow_info(file, header),
        )
        found = decode(file, header, icc=metadata.icc, page=page or 0, any_bands=any_bands)
        notes = (*found.notes, *_page_notes(file, header, page, count))
    carried = metadata.carried
    if metadata.orientation >= 5 and carried.density is not None:
        carried = replace(carried, density=carried.density.turned())
    if metadata.orientation != 1 and carried.geo:
        carried = replace(carried, geo=())
        notes = (*notes, "the GeoTIFF tags are left out: the picture was turned")
    color_hwc, alpha_hw = _upright_planes(found, metadata.orientation)
    return Picture(
        path=path,
        color_hwc=color_hwc,
        alpha_hw=alpha_hw,
        icc=None if found.is_converted else metadata.icc,
        exif=metadata.exif,
        format=header.format,
        source_mode=found.source_mode,
        orientation=metadata.orientation,
        carried=carried,
        notes=notes,
        is_complete=found.is_complete,
        page=page or 0,
        pages=count,
    )


def _page_notes(file: BinaryIO, header: Header, page: int | None, count: int) -> Iterator[str]:
    if count > 1 and page is None:
        kind = "pages" if header.format == "tiff" else "frames"
        yield f"the first of {count} {kind} is read; the others are not"
    if header.tiff is not None and header.tiff.first_is_thumbnail:
        yield "the file's first page is a thumbnail; the full picture behind it is read"
    if header.format == "jpg" and (more := jpeg_pictures(file)) > 1:
        yield f"the first of {more} pictures in the JPEG is read (the others: previews, a second eye, a gain map)"


def read_text(path: Path | str) -> dict[str, str]:
    """Return the text that `write_picture` put into a file (for PNG: all of its text chunks).

    Raises:
        ImageFileError: the file is missing, cannot be read or is no picture.
    """
    path = Path(path)
    with open_file(path) as file:
        header = checked_header(path, file, max_pixels=None)
        try:
            return read_text_of(file, header.format)
        except (OSError, ValueError) as err:
            raise ImageFileError(undecodable(path, header, err)) from err


def content_hash(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        ImageFileError: the file is missing or cannot be read.
    """
    path = Path(path)
    digest = hashlib.sha256()
    with open_file(path) as file:
        try:
            while part := file.read(2**20):
                digest.update(part)
        except OSError as err:
            raise ImageFileError(unreadable(path, err)) from err
    return digest.hexdigest()


def _upright_planes(found: Decoded, orientation: int) -> tuple[np.ndarray, np.ndarray | None]:
    pixels_hwc = found.pixels_hwc if found.is_upright else _turned(found.pixels_hwc, orientation)
    colors = pixels_hwc.shape[2] - found.has_alpha
    color_hwc = np.ascontiguousarray(pixels_hwc[..., :colors])
    alpha_hw = np.ascontiguousarray(pixels_hwc[..., colors]) if found.has_alpha else None
    return color_hwc, alpha_hw


def _turned(pixels_hwc: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels upright (Exif 2.32 section 4.6.4: where row 0 and column 0 of the file belong)."""
    if orientation >= 5:  # row 0 is a vertical side
        pixels_hwc = pixels_hwc.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):  # the last row comes first
        pixels_hwc = pixels_hwc[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_hwc = pixels_hwc[:, ::-1]
    return pixels_hwc
