"""The list of pictures that a run could not use, in its folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from hypir_core.errors import ConfigError

from .endings import printable

NAME = "bad_files.txt"

log = logging.getLogger(__name__)


class BadFiles:
    """Writes ``bad_files.txt``: one line per picture, which and why. There is no file while there is none.

    The first process writes what was found at the start; each process adds what it finds on the way, the
    others to a file of their own, since they may be on other machines. A resumed run keeps what is there.
    """

    def __init__(self, run_dir: Path, skipped: Sequence[str], *, process: int, resumed: bool):
        path = run_dir / NAME
        self.path = path.with_stem(f"{path.stem}-process-{process}") if process else path
        before = self._read() if resumed else []
        if not resumed:
            self.path.unlink(missing_ok=True)
        self._known = set(before)
        found = map(printable, skipped if process == 0 else ())
        self._write([line for line in found if line not in self._known])

    def add(self, lines: Sequence[str]) -> None:
        """Report pictures that turned out to be unusable: in the log and in the file, once each."""
        new = [line for line in dict.fromkeys(map(printable, lines)) if line not in self._known]
        for line in new:
            log.warning("data.root: skipped %s; the next picture takes its turn", line)
        self._write(new)
        if new:
            log.warning("data.root: %s now lists %d left out", self.path, len(self._known))

    def _read(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []

    def _write(self, lines: Sequence[str]) -> None:
        if not lines:
            return
        self._known.update(lines)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
        except OSError as err:
            raise ConfigError(f"output_dir: {self.path} cannot be written ({err.strerror or err})") from err
