"""What the terminal shows: a bar per picture and stage with the time left; nothing when the output is piped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from ..progress import Progress as ProgressCallback
from ..progress import Tick

if TYPE_CHECKING:
    from ..batch.finding import Finding

# No markup and no emoji anywhere, tables included: a name such as "[red]x.png" or ":cat:.png" is a name.
out = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
err = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {ord("\n"): "\\n"}


def say(text: object, *, of: object = None) -> None:
    """Print one line on standard error, as it is; a control character in a name is shown as its number."""
    line = f"hypir: {text}" if of is None else f"hypir: {of}: {text}"
    err.print(line.translate(_CONTROLS))


def tell(text: object) -> None:
    """Print one line on standard output, as `say` does."""
    out.print(str(text).translate(_CONTROLS))


def tell_json(data: Mapping[str, Any]) -> None:
    """Print JSON on standard output; letters that it cannot show are escaped as JSON does it."""
    is_unicode = (out.encoding or "").lower().replace("-", "").startswith("utf")
    text = json.dumps(data, ensure_ascii=not is_unicode, indent=2)
    out.print(text.encode(errors="backslashreplace").decode())  # a lone surrogate: JSON's own escape


def say_what_was_left_out(finding: Finding) -> None:
    """Name the folders that could not be listed, and the kinds of files that were passed over, with their counts."""
    for line in (*finding.problems, *finding.passed_over):
        say(line)


class Bars:
    """Adapts stage ticks to rich's bars."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self._name = ""
        self._task = None

    def start(self, name: str) -> None:
        """Begin the bars of one picture."""
        self._name = name
        self._drop()

    def tick(self, tick: Tick) -> None:
        """Show one step of a stage."""
        label = f"{self._name} · {tick.stage}"
        if self._task is None or self._progress.tasks[-1].description != label:
            self._drop()
            # What a resumed run found done took no time: it does not count for the time left.
            self._task = self._progress.add_task(label, total=tick.total, completed=tick.done)
        self._progress.update(self._task, completed=tick.done, total=tick.total)

    def count(self, done: int, total: int, failed: int, rate: float) -> None:
        """Show how far many pictures are: how many, how many failed, how many a second."""
        label = f"pictures · {failed} failed · {rate:.1f}/s"
        if self._task is None:
            self._task = self._progress.add_task(label, total=total)
        self._progress.update(self._task, completed=done, description=label)

    def line(self, text: str) -> None:
        """Print a line above the bars, on a terminal only."""
        if err.is_terminal:
            self._drop()
            err.print(text.translate(_CONTROLS))

    def _drop(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


@contextmanager
def bars() -> Iterator[Bars]:
    """Show bars on standard error while the block runs; without a terminal nothing is shown."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        yield Bars(progress)


def tick_of(shown: Bars) -> ProgressCallback:
    """Return the callback that a `Runtime` takes."""
    return shown.tick
