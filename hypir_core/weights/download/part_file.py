"""A file that is still being downloaded: its name, its one writer, its room on the disk, its hash."""

from __future__ import annotations

import glob
import hashlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ...errors import WeightsError
from ..fingerprint import feed
from .sources import human_size

_SPARE_BYTES = 1 << 26
"""Left free on the disk."""


def part_path(target: Path, identity: str) -> Path:
    """Return where a file grows; named after what it is, so that parts of different files never mix."""
    return target.with_name(f"{target.name}.{hashlib.sha256(identity.encode()).hexdigest()[:8]}.part")


def remove_parts(target: Path) -> None:
    """Remove what other versions of a finished file have left behind."""
    for stale in target.parent.glob(f"{glob.escape(target.name)}.*.part"):
        stale.unlink()


@contextmanager
def sole_writer(part: Path) -> Iterator[BinaryIO]:
    """Open a part file at its end, for this process alone (on Windows only the hash tells).

    Raises:
        WeightsError: another process has it.
    """
    with part.open("a+b") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                raise WeightsError(
                    f"{part}: another process is downloading this file; wait for it, then run this again"
                ) from err
        file.seek(0, 2)
        yield file


def hash_fault(path: Path, *, sha256: str | None, git_sha1: str | None) -> str | None:
    """Compare a file with its sha256 or, where that is None, with its git blob hash; None: it is right.

    A git blob hash is the SHA-1 of ``blob <size>``, a zero byte and the content.
    """
    digest = hashlib.sha256() if sha256 else hashlib.sha1(usedforsecurity=False)
    if not sha256:
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        feed(digest, file)
    got, expected = digest.hexdigest(), sha256 or git_sha1
    return None if got == expected else f"expected {digest.name} {expected}, got {got}"


def check_room(folder: Path, needed_bytes: int) -> None:
    """Refuse to start what the disk cannot hold; `folder` need not exist yet.

    Raises:
        WeightsError: says how much is needed and how much is there.
    """
    there = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed_bytes + _SPARE_BYTES:
        raise WeightsError(
            f"{folder}: expected {human_size(needed_bytes + _SPARE_BYTES)} of free space, got "
            f"{human_size(free)}; free some or choose another folder"
        )
