"""All manifests of an output folder: what they say together, one made of many, and what is to be tried again."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import atomic_file, explain_os_error
from ..errors import ConfigError, FileError
from .manifest import lines_of
from .numbered import Numbered
from .shards import MANIFEST, manifests_in


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What the manifests of a folder say."""

    manifests: int
    done: int
    failed: tuple[dict[str, Any], ...]
    """Their lines."""
    set_aside: tuple[dict[str, Any], ...]
    """Lines of pictures that ended the programs that tried them."""
    seconds: float
    """Spent on what is done, all workers together."""


def status_of(folder: Path) -> Status:
    """Return what the manifests of a folder say.

    Raises:
        ConfigError: it has none.
        FileError: one of them cannot be read.
    """
    paths = _some(folder)
    numbered, seconds = Numbered(), array("d")  # of what is done no line is kept: it may be a million
    others: dict[int, dict[str, Any]] = {}
    for path in _in_time(paths):
        for line in lines_of(path):
            number = numbered.add(line["output"])
            if number == len(seconds):
                seconds.append(0.0)
            is_done = line["status"] == "done"
            seconds[number] = line.get("seconds", 0.0) if is_done else 0.0
            if is_done:
                others.pop(number, None)
            else:
                others[number] = line
    by_status: dict[str, list[dict[str, Any]]] = {"failed": [], "set aside": []}
    for number in sorted(others):
        by_status.setdefault(others[number]["status"], []).append(others[number])
    return Status(
        manifests=len(paths),
        done=len(numbered) - len(others),
        failed=tuple(by_status["failed"]),
        set_aside=tuple(by_status["set aside"]),
        seconds=sum(seconds),
    )


def merge(folder: Path) -> int:
    """Make one manifest of all, with one line for each output, and remove the others; return how many it was.

    No run may be writing into them.

    Raises:
        ConfigError: there are none.
        FileError: one of them cannot be read, or the new one cannot be written; nothing is removed then.
    """
    paths = _some(folder)
    _write(folder, _Last(paths).lines())
    _remove(path for path in paths if path.name != MANIFEST)
    return len(paths)


def retry_failed(folder: Path) -> list[str]:
    """Forget what failed or was set aside, so that the next run tries it; return the inputs. The manifests become one.

    Raises:
        ConfigError, FileError: as `merge` does.
    """
    paths = _some(folder)
    failed: list[str] = []

    def kept(lines: Iterable[bytes]) -> Iterator[bytes]:
        for raw in lines:
            line = json.loads(raw)
            if line["status"] == "done":
                yield raw
            else:
                failed.append(str(line.get("input", line["output"])))

    _write(folder, kept(_Last(paths).lines()))
    _remove(path for path in paths if path.name != MANIFEST)
    return failed


def _some(folder: Path) -> list[Path]:
    if paths := manifests_in(folder):
        return paths
    raise ConfigError(
        f"{folder}: expected an output folder of `hypir restore`, found no manifest ({MANIFEST}) in it"
    )


class _Last:
    """Which line of each output is the last, in the manifest that was changed last: of each only its number is kept."""

    def __init__(self, paths: list[Path]):
        self._paths = _in_time(paths)
        numbered = Numbered()
        self._counts = array("Q")
        """Of each output, the number of its last line; the lines of all manifests are counted through."""
        self._numbers = array("I")
        """Of each line, the number of its output."""
        for count, line in enumerate(self._all()):
            number = numbered.add(line["output"])
            if number == len(self._counts):
                self._counts.append(0)
            self._counts[number] = count
            self._numbers.append(number)

    def lines(self) -> Iterator[bytes]:
        """Yield the last line of each output."""
        for count, (number, line) in enumerate(zip(self._numbers, self._all(), strict=True)):
            if self._counts[number] == count:
                yield json.dumps(line).encode()

    def _all(self) -> Iterator[dict[str, Any]]:
        return (line for path in self._paths for line in lines_of(path))


def _in_time(paths: list[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns)


def _write(folder: Path, lines: Iterable[bytes]) -> None:
    with atomic_file(folder / MANIFEST, sync=True, error=FileError) as file:
        for line in lines:
            file.write(line + b"\n")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as err:
            raise FileError(explain_os_error(path, err)) from err
