"""Downloads as a person at a terminal meets them: what, how big, whose; yes or no; a bar."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..weights.download.fetching import DownloadTick, download
from ..weights.download.sources import Fetch, Source
from . import console


def fetcher(*, consented: bool) -> Fetch | None:
    """Return how to get missing weights, or None where nobody is there who could be asked.

    Args:
        consented: the user has already said yes (``--download``): say what is fetched, but do not ask.
    """
    if consented or (console.err.is_terminal and sys.stdin.isatty()):
        return partial(_fetch, consented=consented)
    return None


def _fetch(source: Source, into: Path, *, consented: bool) -> None:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    bar = Progress(
        *(*columns, TransferSpeedColumn(), TimeRemainingColumn()),
        console=console.err,
        disable=not console.err.is_terminal,
        transient=True,
    )
    task = bar.add_task(source.title, total=None)

    def confirm(description: str) -> bool:
        console.err.print(description)
        yes = consented or typer.confirm("Not found on this machine. Download it?", default=False, err=True)
        if yes:
            bar.start()
        return yes

    def show(tick: DownloadTick) -> None:
        bar.update(task, description=tick.path, completed=tick.done_bytes, total=tick.total_bytes)

    try:
        download(source, into, confirm=confirm, progress=show)
    finally:
        bar.stop()
