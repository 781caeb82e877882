"""The manifest of an output folder: one JSON line per finished or failed picture, so that a stopped run goes on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..atomic import explain_os_error
from ..errors import FileError

MANIFEST = "hypir-manifest.jsonl"
"""Name of the manifest in an output folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """How one job ended; the manifest's line."""

    input: str
    output: str
    status: str
    """``done``, ``skipped`` or ``failed``."""
    key: str
    """Hash of all that the result depends on: the same key is the same result."""
    seconds: float = 0.0
    error: str | None = None


class Manifest:
    """What a folder's manifest says. Outputs are kept relative to the folder, however it is spelled."""

    def __init__(self, path: Path):
        """Read the manifest, if it is there.

        Raises:
            FileError: it cannot be read, or is no manifest of this program.
        """
        self.path = path
        self._folder = Path(os.path.abspath(path.parent))  # noqa: PTH100  # `resolve` would follow links
        self._done = self._read()

    def key_of(self, output: Path) -> str | None:
        """Return the key under which an output was finished; None if it was not."""
        return self._done.get(self._place(output))

    def made(self, path: Path) -> bool:
        """Say whether an earlier run wrote this file."""
        return self._place(path) in self._done

    def add(self, result: Result) -> None:
        """Append a line.

        Raises:
            FileError: it cannot be written.
        """
        line = asdict(result) | {"output": self._place(Path(result.output))}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                _drop_what_was_cut_off(file)
                file.write(json.dumps(line).encode() + b"\n")
        except OSError as err:
            raise FileError(explain_os_error(self.path, err)) from err
        if result.status == "done":
            self._done[line["output"]] = result.key
        else:
            self._done.pop(line["output"], None)

    def _place(self, output: Path) -> str:
        whole = Path(os.path.abspath(output))  # noqa: PTH100
        return (whole.relative_to(self._folder) if whole.is_relative_to(self._folder) else whole).as_posix()

    def _read(self) -> dict[str, str]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, UnicodeDecodeError) as err:
            raise FileError(
                f"{self.path}: expected a manifest of this program, cannot read it ({err})"
            ) from err
        done: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            entry = self._entry(line, number, last=number == len(lines))
            if entry is None:
                continue
            place = self._known_place(entry["output"])
            if entry["status"] == "done":
                done[place] = entry["key"]
            else:
                done.pop(place, None)
        return done

    def _entry(self, line: str, number: int, *, last: bool) -> dict[str, Any] | None:
        """Return one line; None for a last one that was cut off by a stop, or an empty one."""
        if not line.strip():
            return None
        try:
            entry = json.loads(line)
        except ValueError as err:
            if last:
                return None
            raise FileError(self._foreign(number, "is not JSON")) from err
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(k), str) for k in ("output", "status", "key")
        ):
            raise FileError(self._foreign(number, "has no output, status and key"))
        return entry

    def _foreign(self, number: int, what: str) -> str:
        return (
            f"{self.path}: expected a manifest of this program, but line {number} {what}; remove or rename the file, "
            "or choose another output folder"
        )

    def _known_place(self, output: str) -> str:
        """Return the place of an output as manifests write it now; older ones wrote paths as they were typed."""
        path = Path(output)
        if path.is_absolute() or (self._folder / path).exists():
            return self._place(self._folder / path)
        typed = Path(os.path.abspath(path))  # noqa: PTH100
        return self._place(typed) if typed.is_relative_to(self._folder) else path.as_posix()


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
