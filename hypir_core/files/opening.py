"""Open a picture file and read its header, or say in one line why that cannot be done."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import HypirError, ImageFileError
from .decoded import DECODE_ERRORS, UnsupportedPictureError, too_many_bands
from .formats import HEAD_BYTES, KNOWN_UNREADABLE, READABLE, likeness
from .header import Header, read_header
from .tiff_pages import TiffPage


@contextmanager
def opened_header(
    path: Path, *, max_pixels: int | None
) -> Iterator[tuple[BinaryIO, Header, TiffPage | None]]:
    """Open a picture file; give it, its header and, of a TIFF, the page that is the picture.

    Raises:
        ImageFileError: as for `read_picture`.
    """
    with open_file(path) as file:
        header = checked_header(path, file, max_pixels)
        yield file, header, chosen_tiff_page(path, header, None, any_bands=False)


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        ImageFileError: it is missing, a folder, a pipe, or not readable by this user.
    """
    try:
        if path.is_dir():
            raise ImageFileError(f"{path}: expected a picture, got a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise ImageFileError(f"{path}: expected a file, got a pipe or a device; save the picture first")
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as err:
        raise ImageFileError(f"{path}: expected a picture, got no such file; check the path") from err
    except PermissionError as err:
        raise ImageFileError(
            f"{path}: expected a file that can be read, got: {err.strerror}; change its permissions"
        ) from err
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or err  # an OSError's own words name the path once more
        raise ImageFileError(
            f"{path}: expected a file that can be read, got: {reason}; check the path"
        ) from err
    return file


def checked_header(path: Path, file: BinaryIO, max_pixels: int | None) -> Header:
    """Read and check the header of an open file; `max_pixels` None: any size.

    Raises:
        ImageFileError: no picture, an empty file, a damaged header, zero or too many pixels.
    """
    try:
        file.seek(0)
        head = file.read(HEAD_BYTES)
    except OSError as err:
        raise ImageFileError(unreadable(path, err)) from err
    if not head:
        raise ImageFileError(f"{path}: expected a picture, got an empty file; copy it again from its source")
    try:
        header = read_header(file)
    except (OSError, ValueError, OverflowError) as err:
        raise ImageFileError(
            f"{path}: expected a complete picture, but {_one_line(err)}; copy it again from its source"
        ) from err
    if header is None:
        words, advice = likeness(head)
        raise ImageFileError(f"{path}: expected a picture ({READABLE}), got {words}; {advice}")
    if header.width_px < 1 or header.height_px < 1:
        raise ImageFileError(
            f"{path}: expected at least 1×1 px, got {header.width_px}×{header.height_px}; the file is damaged"
        )
    if max_pixels is not None and header.width_px * header.height_px > max_pixels:
        side_px = math.isqrt(max_pixels)
        raise ImageFileError(
            f"{path}: expected at most {max_pixels} pixels (such as {side_px}×{side_px}), "
            f"got a file that claims {header.width_px}×{header.height_px}; shrink it or cut it into parts"
        )
    return header


def unreadable(path: Path, err: OSError) -> str:
    """Return the line for a file on a disk that fails."""
    return f"{path}: expected a file that can be read, got: {err.strerror or err}; check the disk"


def undecodable(path: Path, header: Header, err: BaseException) -> str:
    """Return the line for a file whose format is known and that a decoder gave up."""
    if isinstance(err, MemoryError):
        return (
            f"{path}: expected memory for {header.width_px}×{header.height_px} px, got none; "
            "close other programs or shrink the picture"
        )
    return (
        f"{path}: expected a complete {header.format}, got a damaged one ({_one_line(err)}); "
        "copy it again from its source"
    )


def _one_line(err: BaseException) -> str:
    return " ".join(str(err).split()) or type(err).__name__


def chosen_tiff_page(path: Path, header: Header, page: int | None, *, any_bands: bool) -> TiffPage | None:
    """Return the page of a TIFF that is read; refuse what could be read only in part."""
    found = header.tiff
    if found is None:
        return None
    if found.is_raw:
        raise ImageFileError(
            f"{path}: expected a picture, got a camera's raw file; {KNOWN_UNREADABLE['.dng']}"
        )
    if page is None and found.slices > 1:
        raise ImageFileError(
            f"{path}: expected 1 slice, got a stack of {found.slices}; stacks are not restored as a picture: "
            "name one page, or restore the file as a scene"
        )
    stored = found.pages[page] if page is not None and 0 <= page < len(found.pages) else found.pages[0]
    if not any_bands and not stored.is_picture:
        raise ImageFileError(f"{path}: {too_many_bands(stored.samples, stored.colors)}")
    return stored


@contextmanager
def named_errors(path: Path, header: Header) -> Iterator[None]:
    """Turn what decoders raise into one line that names the file."""
    try:
        yield
    except UnsupportedPictureError as err:
        raise ImageFileError(f"{path}: {_one_line(err)}") from err
    except HypirError:
        raise
    except DECODE_ERRORS as err:
        raise ImageFileError(undecodable(path, header, err)) from err
