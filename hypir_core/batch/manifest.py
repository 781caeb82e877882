"""The manifest of an output folder: one JSON line per finished or failed picture, so that a stopped run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..atomic import explain_os_error
from ..errors import FileError
from .made import Made, Stamp
from .shards import MANIFEST

__all__ = ["LINE_BEGINS", "MANIFEST", "Manifest", "Result", "Stamp", "lines_of"]

LINE_BEGINS = '{"input": '
"""How every line begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """How one job ended; the manifest's line."""

    input: str
    output: str
    status: str
    """``done``, ``skipped``, ``failed``, or ``set aside``: it ended the programs that tried it; nobody tries again."""
    key: str
    """Hash of all that the result depends on: the same key is the same result."""
    seconds: float = 0.0
    error: str | None = None
    compare: str | None = None
    """The before/after picture beside it."""
    stamp: Stamp | None = None
    """The input's, when it was read."""
    settings: str = ""
    """Hash of all that the result depends on besides the input."""


class Manifest:
    """What a folder's manifests say. Files are kept relative to the folder, however it is spelled.

    Lines are added to one of them; others, of other shards, are only read. Adding takes the same time however many
    lines there are.
    """

    def __init__(self, path: Path, others: Iterable[Path] = ()):
        """Read the manifests, as far as they are there.

        Args:
            path: the one that lines are added to.
            others: of other shards of the same folder.

        Raises:
            FileError: one cannot be read, or is no manifest of this program.
        """
        self.path = path
        self._folder = Path(os.path.abspath(path.parent))  # noqa: PTH100  # `resolve` would follow links
        self._below = os.path.join(self._folder, "")  # noqa: PTH118
        self._made = Made()
        self._is_whole = False
        """Whether the file is known to end with a line's end."""
        for other in others:
            if other != path:
                for line in lines_of(other):
                    if line["status"] in {"done", "set aside"}:  # what failed there is tried here
                        self._remember(line)
        for line in lines_of(path):
            self._remember(line)

    def key_of(self, output: Path) -> str | None:
        """Return the key under which an output was finished; None if it was not."""
        return self._made.key_of(self._place(output))

    def unchanged(self, output: Path, settings: str, stamp: Stamp | None) -> str | None:
        """Return the key of a finished output if settings, size and time of its input are as they were; else None."""
        return None if stamp is None else self._made.unchanged(self._place(output), settings, stamp)

    def is_set_aside(self, output: Path) -> bool:
        """Say whether an output is not to be tried again."""
        return self._made.is_set_aside(self._place(output))

    def wrote(self, path: str) -> bool:
        """Say whether a run wrote a file, given by its absolute path: a result or a before/after picture."""
        return self._made.was_written(self._place(path))

    def add(self, result: Result) -> None:
        """Append a line; it is handed to the system before this returns.

        Raises:
            FileError: it cannot be written.
        """
        line = {name: value for name, value in asdict(result).items() if value not in (None, "")}
        line |= {"output": self._place(result.output), "key": result.key, "error": result.error}
        if result.compare is not None:
            line["compare"] = self._place(result.compare)
        if result.stamp is not None:
            line["stamp"] = [result.stamp.bytes, result.stamp.mtime_ns]
        try:
            if not self._is_whole:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                if not self._is_whole:
                    _drop_what_was_cut_off(file)
                file.write(json.dumps(line).encode() + b"\n")
            self._is_whole = True
        except OSError as err:
            raise FileError(explain_os_error(self.path, err)) from err
        self._remember(line)

    def _remember(self, line: Mapping[str, Any]) -> None:
        """Know what a line says; a result that was written once is no input, even if it failed later."""
        if line["status"] == "done":
            self._made.done(line["output"], line["key"], line.get("settings", ""), _stamp_in(line))
            if (compare := line.get("compare")) is not None:
                self._made.wrote(compare)
        else:
            self._made.failed(line["output"], set_aside=line["status"] == "set aside")

    def _place(self, path: Path | str) -> str:
        """Return a path as seen from the folder; one on another drive stays whole."""
        whole = os.path.abspath(path)  # noqa: PTH100
        if whole.startswith(self._below):
            place = whole[len(self._below) :]
            return place if os.sep == "/" else place.replace(os.sep, "/")
        try:
            return Path(os.path.relpath(whole, self._folder)).as_posix()
        except ValueError:
            return Path(whole).as_posix()


def _stamp_in(line: Mapping[str, Any]) -> Stamp | None:
    """Return what a line says of its input; None if it says nothing, or what no disk says."""
    said = line.get("stamp")
    if not isinstance(said, list) or len(said) != 2 or any(type(it) is not int for it in said):
        return None
    return Stamp(*said) if all(abs(it) < 1 << 63 for it in said) else None


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what a manifest's lines say, one at a time; nothing where there is no such file.

    A last line that a stop cut off is left out.

    Raises:
        FileError: the file cannot be read, or is no manifest of this program.
    """
    try:
        file = path.open(encoding="utf-8", newline="\n")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as err:
        raise FileError(_unreadable(path, err.strerror or err)) from err
    with file:
        try:
            for number, line in enumerate(file, 1):
                whole = line.endswith("\n")
                if line.strip() and (whole or not _was_cut_off(line)):
                    yield _parsed(path, line, number)
        except UnicodeDecodeError as err:
            raise FileError(_unreadable(path, "it is no text in UTF-8")) from err
        except OSError as err:
            raise FileError(_unreadable(path, err.strerror or err)) from err


def _unreadable(path: Path, why: object) -> str:
    return (
        f"{path}: expected a manifest of this program, cannot read it ({why}); remove or rename the "
        "file, or choose another output folder"
    )


def _parsed(path: Path, line: str, number: int) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as err:
        raise FileError(_foreign(path, number, "is not JSON")) from err
    texts = isinstance(entry, dict) and [entry.get(name) for name in ("output", "status", "key")]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise FileError(_foreign(path, number, "has no output, status and key"))
    return entry


def _foreign(path: Path, number: int, what: str) -> str:
    return (
        f"{path}: expected a manifest of this program, but line {number} {what}; remove or rename the file, "
        "or choose another output folder"
    )


def _was_cut_off(line: str) -> bool:
    """Say whether a last line without an end is one of ours that a stop cut off."""
    try:
        json.loads(line)
    except ValueError:
        return line.startswith(LINE_BEGINS) or LINE_BEGINS.startswith(line)
    return False


def _drop_what_was_cut_off(file: BinaryIO) -> None:
    """Cut a last line that a stop left without its end; afterwards the file is at its end."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    start = max(0, size - (1 << 20))  # no line is longer
    file.seek(start)
    kept = file.read().rfind(b"\n") + 1
    file.truncate(start + kept)
    file.seek(0, os.SEEK_END)
