"""What the terminal shows: a bar per picture and stage with the time left; nothing when the output is piped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
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

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, *, of: object = None) -> None:
    """Print a line on standard error, as it is: names are no markup."""
    line = f"hypir: {text}" if of is None else f"hypir: {of}: {text}"
    err.print(line, markup=False, emoji=False, highlight=False)


def tell(text: str) -> None:
    """Print a line on standard output, as `say` does."""
    out.print(text, markup=False, emoji=False, highlight=False)


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
        label = escape(f"{self._name} · {tick.stage}")
        if self._task is None or self._progress.tasks[-1].description != label:
            self._drop()
            self._task = self._progress.add_task(label, total=tick.total)
        self._progress.update(self._task, completed=tick.done)

    def line(self, text: str) -> None:
        """Print a line above the bars, on a terminal only."""
        if err.is_terminal:
            self._drop()
            err.print(text, markup=False, emoji=False)

    def _drop(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


@contextmanager
def bars() -> Iterator[Bars]:
    """Show bars on standard error while the block runs; without a terminal nothing is shown."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        yield Bars(progress)


def tick_of(shown: Bars) -> ProgressCallback:
    """Return the callback that a `Runtime` takes."""
    return shown.tick
