"""Write a file so that it is either whole or not there."""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import HypirError, ImageFileError

_log = logging.getLogger(__name__)

_LEFTOVER = re.compile(r"\..{1,40}\.[0-9a-f]{12}\.tmp", re.DOTALL)
_ADVICE = {
    errno.ENOSPC: ("room on the disk", "free some space or choose another folder"),
    errno.EDQUOT: ("room in the disk quota", "free some space or choose another folder"),
    errno.EFBIG: ("a file size that the disk allows", "choose another folder or a smaller format"),
    errno.EACCES: ("a folder that can be written", "change its permissions or choose another folder"),
    errno.EPERM: ("a folder that can be written", "change its permissions or choose another folder"),
    errno.EROFS: ("a folder that can be written", "choose a folder that is not mounted read-only"),
    errno.ENOTDIR: ("folders only above the file's name", "choose another folder"),
    errno.EEXIST: ("folders only above the file's name", "choose another folder"),
    errno.EISDIR: ("a file name", "choose a name that is not a folder's"),
    errno.ENAMETOOLONG: ("a name that the disk can store", "choose a shorter name"),
}


@contextmanager
def atomic_file(
    path: Path, *, sync: bool = False, error: type[HypirError] = ImageFileError
) -> Iterator[BinaryIO]:
    """Open a new file (read and write) that takes the name `path` when the block ends without an exception.

    Until then it lies beside it as ``.<name>.<random>.tmp``; on any exception, an interrupt included, it is
    removed and whatever was at `path` before is untouched. Parent folders are created.

    Args:
        path: the file's final name.
        sync: have everything on the disk before the name is taken: guards against a power cut too, not only against a
            stopped program.
        error: what to raise.

    Raises:
        HypirError: `error`: the folder cannot be made or written, the disk is full …, with advice.
    """
    _refuse_impossible_name(path, error)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("x+b") as file:
                yield file
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as err:
        raise error(explain_os_error(path, err)) from err


@contextmanager
def atomic_path(path: Path, *, error: type[HypirError] = ImageFileError) -> Iterator[Path]:
    """Give a hidden path beside `path`, for writers that open files themselves or write a folder.

    What lies there takes the name `path` when the block ends without an exception, in place of a file or folder that
    had it; otherwise it is removed. Parent folders are created.

    Raises:
        HypirError: `error`: the folder cannot be made or written, the disk is full …, with advice.
    """
    _refuse_impossible_name(path, error)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if path.is_dir() and not path.is_symlink():
                old = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.tmp")
                path.rename(old)
                temporary.replace(path)
                shutil.rmtree(old)
            else:
                temporary.replace(path)
        finally:
            _remove(temporary)
    except OSError as err:
        raise error(explain_os_error(path, err)) from err


def _remove(path: Path) -> None:
    """Remove a file, or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep_leftovers(folder: Path, *, older_than_s: float = 3600) -> int:
    """Remove the hidden files that programs killed in the middle of `atomic_file` left in a folder; return how many.

    Those that were changed within `older_than_s` seconds may be another program's that is still writing, and stay; so do
    those that this user may not remove (a warning in the log says so).
    """
    removed = 0
    if not folder.is_dir():
        return removed
    latest = time.time() - older_than_s
    for entry in os.scandir(folder):
        if not _LEFTOVER.fullmatch(entry.name):
            continue
        try:
            if entry.stat().st_mtime < latest:
                _remove(Path(entry.path))
                removed += 1
        except OSError as err:
            _log.warning(
                "%s: left by a program that was stopped, cannot be removed: %s", entry.path, err.strerror
            )
    return removed


def _refuse_impossible_name(path: Path, error: type[HypirError]) -> None:
    """Refuse a name that no system call takes: it would raise another error than those of the disk."""
    try:
        if b"\0" in os.fsencode(path):
            raise ValueError("a NUL in the name")
    except ValueError as err:  # UnicodeEncodeError is one
        raise error(explain_os_error(path, err)) from err


def explain_os_error(path: Path, err: OSError | ValueError) -> str:
    """Return one line: what writing `path` needed, what the system said, what to do.

    A ValueError is a name that no system takes: one with a NUL, or of characters that the disk's encoding lacks.
    """
    if not isinstance(err, OSError):
        return f"{str(path)!r}: expected a name that the disk can store, got: {err}; choose another name"
    expected, advice = _ADVICE.get(err.errno or 0, ("a place that can be written", "check the path"))
    return f"{path}: expected {expected}, got: {err.strerror or err}; {advice}"
