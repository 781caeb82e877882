"""A run as a page sees it: how far it is, the canvas filling in, what came out. The work is `batch.running`'s."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ..allocator import give_back_freed_memory
from ..batch.manifest import Result
from ..batch.naming import Job, unlike_names
from ..batch.restoring import Writing
from ..batch.running import run_jobs
from ..debug import inspector
from ..errors import Cancelled, HypirError
from ..files.formats import output_extension
from ..image.preview import preview_of
from ..measure.forecast import learn
from ..progress import Tick, duration
from ..request import Report, Request
from ..runtime import Runtime
from .engine import HeldEngine
from .pictures import backdrop_of
from .sessions import Session

LOOK_EVERY_S = 0.4
"""So often the page is told how far a run is."""

MARK = "-restored"
"""What stands behind a picture's name in the name of its result."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What somebody at the page asked for."""

    pictures: tuple[Path, ...]
    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the engine that differ from its defaults."""
    request: Request
    format: str | None = None
    """Of the results; None keeps that of each picture, as `hypir restore` does."""
    mask: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Done:
    """One picture that was worked on."""

    source: Path
    output: Path
    report: Report | None
    error: str | None

    @property
    def line(self) -> str:
        """What became of it, in one line."""
        if self.report is None:
            return f"{self.source.name}: {self.error}"
        (h, w), (height, width) = self.report.input_px, self.report.output_px
        took = duration(self.report.seconds)
        return f"{self.source.name}: {w}×{h} → {width}×{height} px in {took}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """How a run is at one moment."""

    whole: float
    """Part that is done, 0 to 1."""
    words: str
    done: tuple[Done, ...] = ()
    canvas: Image.Image | None = None
    """What the canvas of the picture in work shows."""
    error: str | None = None
    """Why the run ended early, in one line."""
    is_over: bool = False


def watch(asked: Asked, session: Session, engines: HeldEngine) -> Iterator[Seen]:
    """Restore pictures in a thread of their own, and yield how far they are until the last is made.

    Whoever stops looking stops the run.
    """
    run = _Run(asked, session, engines)
    thread = threading.Thread(target=run.work, name="hypir-web-run", daemon=True)
    thread.start()
    try:
        while not run.ended.wait(LOOK_EVERY_S):
            yield run.seen()
        thread.join()
        if run.fault is not None:
            raise run.fault
        yield run.seen()
    finally:
        session.stop.set()
        thread.join()


class _Run:
    """The thread writes what the page reads: a tick, the results, how it ended."""

    def __init__(self, asked: Asked, session: Session, engines: HeldEngine):
        self.ended = threading.Event()
        self.fault: Exception | None = None
        self._asked, self._session, self._engines = asked, session, engines
        self._started = time.monotonic()
        self._tick: Tick | None = None
        self._backdrop: Tensor | None = None
        self._current = ""
        self._licence = ""
        self._done: list[Done] = []
        self._error: str | None = None

    def work(self) -> None:
        """Make all results; whatever ends the work is kept for the page."""
        try:
            with self._session.in_use():
                self._restore()
        except HypirError as err:
            self._error = "; ".join(str(err).splitlines())
        except Exception as err:  # raised again where the page is told
            self.fault = err
        finally:
            self.ended.set()

    def _restore(self) -> None:
        asked, stop = self._asked, self._session.stop
        if stop.is_set():
            raise Cancelled("stopped before it began")
        engine = self._engines.get(asked.engine, asked.options)
        self._licence = engine.spec.licence
        runtime = Runtime(
            device=self._engines.device,
            progress=self._note,
            should_stop=stop.is_set,
            tidy=give_back_freed_memory,
            inspect=inspector(),
        )
        run_jobs(
            engine,
            jobs_of(asked, self._session.new_folder()),
            asked.request,
            runtime,
            writing=Writing(mask=asked.mask, protect=asked.pictures),
            manifest=None,
            started=self._begin,
            finished=self._finish,
        )
        reports = [done.report for done in self._done if done.report is not None]
        if reports and asked.request.strength > 0:
            learn(engine, runtime, reports)

    def _begin(self, job: Job) -> None:
        self._tick = None
        self._current, self._backdrop = job.source.name, backdrop_of(job.source)

    def _note(self, tick: Tick) -> None:
        self._tick = tick

    def _finish(self, job: Job, result: Result, report: Report | None) -> None:
        self._done.append(Done(source=job.source, output=job.output, report=report, error=result.error))

    def seen(self) -> Seen:
        """Return how the run is now."""
        tick, done, count = self._tick, tuple(self._done), len(self._asked.pictures)
        is_over, passed_s = self.ended.is_set(), time.monotonic() - self._started
        if is_over:
            failed = sum(one.report is None for one in done)
            words = f"done in {duration(passed_s)}" + (f"; {failed} of {count} failed" if failed else "")
            words += f" · licence of the weights: {self._licence}"
            return Seen(
                whole=len(done) / count,
                words=self._error or words,
                done=done,
                error=self._error,
                is_over=True,
            )
        if tick is None:
            return Seen(
                whole=len(done) / count,
                words=f"{self._current or self._asked.engine}: getting ready",
                done=done,
            )
        whole = min(1.0, (len(done) + (tick.whole or tick.done / tick.total)) / count)
        of = f"picture {min(len(done) + 1, count)} of {count}, " if count > 1 else ""
        words = f"{of}{tick.stage}: {tick.done} of {tick.total} tiles"
        if whole > 0.02:
            words += f", about {duration(passed_s * (1 - whole) / whole)} left"
        return Seen(whole=whole, words=words, done=done, canvas=preview_of(tick.canvas, self._backdrop))


def jobs_of(asked: Asked, folder: Path) -> list[Job]:
    """Say where each result goes: into `folder`, under the picture's name with a mark, each under a name of its own."""
    endings = [output_extension(path, format_name=asked.format) for path in asked.pictures]
    names = [
        str(folder / f"{path.stem}{MARK}{ending}")
        for path, ending in zip(asked.pictures, endings, strict=True)
    ]
    outputs = unlike_names(names)
    return [Job(path, Path(output)) for path, output in zip(asked.pictures, outputs, strict=True)]
