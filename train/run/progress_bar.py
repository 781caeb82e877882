"""The progress bar of a terminal; where there is none (a log file, a cluster) the lines of the log are enough."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from .building import Run
from .logbook import memory_text
from .meter import length_of_time


class ProgressBar(Protocol):
    """What the loop tells a bar."""

    def step(self, done: int) -> None:
        """Show that `done` steps are done."""
        ...

    def values(self, done: int, values: Mapping[str, float]) -> None:
        """Show the figures of the latest line of scalars."""
        ...


class NoBar:
    """Shows nothing."""

    def step(self, done: int) -> None:
        """Do nothing."""

    def values(self, done: int, values: Mapping[str, float]) -> None:
        """Do nothing."""


class RichBar:
    """A line below the log: steps, loss, seconds per step, time left, memory."""

    def __init__(self, progress: Any, *, start: int, total: int):
        self._progress, self._total = progress, total
        self._task = progress.add_task("training", total=total, completed=start, figures="")

    def step(self, done: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done)

    def values(self, done: int, values: Mapping[str, float]) -> None:
        """Renew the figures."""
        step_s = values["speed/step_s"]
        left = length_of_time((self._total - done) * step_s)
        loss = f"loss {values['loss/total']:.4g}  " if "loss/total" in values else ""
        figures = f"{loss}{step_s:.3f} s/step  {left} left  {memory_text(values)}"
        self._progress.update(self._task, figures=figures)


@contextmanager
def progress_bar(run: Run) -> Iterator[ProgressBar]:
    """Show a bar inside the block, where standard error is a terminal that the main process writes to."""
    if not (run.accelerator.is_main_process and sys.stderr.isatty()):
        yield NoBar()
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:  # the bar is a comfort: the log says the same
        yield NoBar()
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        handlers = [
            handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)
        ]
        # While it shows, rich has put a stream in the place of standard error that writes above the bar.
        before = [handler.setStream(sys.stderr) for handler in handlers]
        try:
            yield RichBar(progress, start=run.start, total=run.config.max_steps)
        finally:
            for handler, stream in zip(handlers, before, strict=True):
                if stream is not None:
                    handler.setStream(stream)
