"""What was uploaded: read by the reader of the command line, kept in the page's own folder, or refused in one line."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..batch.failing import why_it_failed
from ..errors import HypirError
from ..files.opening import checked_header, open_file
from ..files.reading import MAX_PIXELS, read_size_of
from ..weights.download.sources import human_size
from .sessions import Session
from .settings import PageSettings


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The pictures of a page."""

    pictures: tuple[Path, ...]
    """In the page's folder, as they were uploaded, byte for byte."""
    problems: tuple[str, ...]
    """Why the others were refused, one line each."""


def take_in(paths: Sequence[Path], session: Session, settings: PageSettings) -> Taken:
    """Move uploaded files into the page's folder; what is no picture, too large or too much is removed and named."""
    pictures: list[Path] = []
    problems: list[str] = []
    for path in paths:
        if session.holds(path) and path.is_file():
            pictures.append(path)
            continue
        problem = _problem(path, settings, room=settings.max_pictures - len(pictures))
        if problem is not None:
            problems.append(f"{path.name}: {problem}")
            path.unlink(missing_ok=True)
            continue
        target = session.new_folder() / path.name
        shutil.move(path, target)
        pictures.append(target)
    return Taken(pictures=tuple(pictures), problems=tuple(problems))


def _problem(path: Path, settings: PageSettings, *, room: int) -> str | None:
    if not path.is_file():
        return "expected an uploaded file, and it is not there any more; add it once more"
    if path.stat().st_size > settings.max_upload_bytes:
        size, most = human_size(path.stat().st_size), human_size(settings.max_upload_bytes)
        return f"expected a file of at most {most}, got {size}; use the command line for it"
    if room < 1:
        return f"expected at most {settings.max_pictures} at a time; use the command line for more"
    try:
        size_of(path)
    except HypirError as err:
        return why_it_failed(err, path, path)
    return None


def size_of(path: Path) -> tuple[int, int]:
    """Return (height, width) of the upright picture in a file, from its header alone.

    Raises:
        ImageFileError: it is no picture that can be read, or has too many pixels.
    """
    with open_file(path) as file:
        checked_header(path, file, MAX_PIXELS)
        return read_size_of(file, str(path))
