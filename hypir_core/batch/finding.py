"""Which pictures a person means: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError
from ..files.formats import is_picture_path, unreadable_reason

SIDECAR_OF_MACOS = "._"
"""How the files begin that macOS lays beside others on foreign disks; they are no pictures."""


@dataclass(frozen=True, slots=True)
class Found:
    """A picture that was found."""

    path: Path
    place: Path
    """Where its result belongs below an output folder: a folder's structure is kept."""
    named: bool = True
    """Whether a person named it, and not a folder or a pattern."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found."""

    pictures: tuple[Found, ...]
    unread: Mapping[str, int] = field(default_factory=dict)
    """Reason why a kind of picture cannot be read → how many of it lie in the folders."""

    def notes(self) -> list[str]:
        """Return one sentence for each kind that was passed over."""
        return [
            f"{count} {'file was' if count == 1 else 'files were'} passed over: {reason}"
            for reason, count in self.unread.items()
        ]


def find_pictures(inputs: Sequence[str]) -> Finding:
    """Find the named files, and the pictures in folders (recursive) and glob patterns, each once.

    A file that is literally called as a pattern is that file.

    Raises:
        ConfigError: nothing was found.
    """
    found: dict[Path, Found] = {}
    unread: Counter[str] = Counter()
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            inside = (Found(p, p.relative_to(path), named=False) for p in sorted(_files_below(path)))
        elif os.path.lexists(path) or not glob.has_magic(given):
            found[path] = Found(path, Path(path.name))
            continue
        else:
            matches = (Path(m) for m in glob.glob(given, recursive=True))  # noqa: PTH207  # may be absolute
            inside = (Found(p, Path(p.name), named=False) for p in sorted(matches) if p.is_file())
        _keep_pictures(inside, found, unread)
    if not found:
        passed = f"; {'; '.join(Finding(pictures=(), unread=unread).notes())}" if unread else ""
        raise ConfigError(f"no pictures found in {', '.join(map(repr, inputs))}{passed}")
    return Finding(pictures=tuple(found.values()), unread=dict(unread))


def _files_below(folder: Path) -> Iterator[Path]:
    for place, _folders, names in os.walk(folder):
        for name in names:
            if not name.startswith(SIDECAR_OF_MACOS):
                yield Path(place, name)


def _keep_pictures(inside: Iterable[Found], found: dict[Path, Found], unread: Counter[str]) -> None:
    for one in inside:
        if is_picture_path(one.path):
            found.setdefault(one.path, one)
        elif (reason := unreadable_reason(one.path)) is not None:
            unread[reason] += 1
