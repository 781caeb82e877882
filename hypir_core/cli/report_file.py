"""The file of ``--report``: written while the run goes on, in place when it ends; memory does not grow with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..atomic import atomic_file
from ..errors import FileError

SCHEMA = 1

Add = Callable[[dict[str, Any]], None]
"""Takes the entry of one picture."""


@contextmanager
def report_file(path: Path | None, passed_over: Callable[[], Iterable[str]], *, force: bool) -> Iterator[Add]:
    """Within it, entries are written to a report; without a path nothing is.

    However the block ends, the file is whole: ``{"schema", "results": [entry …], "passed_over": [sentence …]}``.

    Args:
        path: of the report.
        passed_over: asked at the end.
        force: overwrite.

    Raises:
        FileError: the file exists, or cannot be written.
    """
    if path is None:
        yield lambda _entry: None
        return
    if path.exists() and not force:
        raise FileError(f"{path} exists; use --force to overwrite it")
    ended: BaseException | None = None
    with atomic_file(path, error=FileError) as file:

        def say(text: str) -> None:
            file.write(text.encode(errors="backslashreplace"))  # a name that is not UTF-8: JSON's own escape

        between = "\n"

        def add(entry: dict[str, Any]) -> None:
            nonlocal between
            text = json.dumps(entry, ensure_ascii=False, indent=2).replace("\n", "\n    ")
            say(f"{between}    {text}")
            between = ",\n"

        say(f'{{\n  "schema": {SCHEMA},\n  "results": [')
        try:
            yield add
        except BaseException as err:  # raised again below, when the file has its name
            ended = err
        rest = json.dumps(list(passed_over()), ensure_ascii=False, indent=2).replace("\n", "\n  ")
        say(
            f'\n  ],\n  "passed_over": {rest}\n}}\n'
            if between != "\n"
            else f'],\n  "passed_over": {rest}\n}}\n'
        )
    if ended is not None:
        raise ended
