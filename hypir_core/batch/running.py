"""One picture after another: a picture that fails is named, and the others are still restored."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..atomic import sweep_leftovers
from ..engines.base import Engine
from ..errors import Cancelled, HypirError
from ..files.reading import read_text
from ..request import Report, Request
from ..runtime import Runtime
from .carrying import Carrier, LocalDisk
from .failing import why_it_failed
from .keys import RunSettings, key_with
from .manifest import Manifest, Result, Stamp
from .naming import Job
from .resolutions import Resolution
from .restoring import KEY, Writing, restore_file

__all__ = ["Ended", "Finished", "Tally", "Writing", "each_job", "record", "run_jobs", "settled"]

log = logging.getLogger(__name__)

ASIDE = "it ended the programs that tried it; `hypir manifest retry-failed` lets it be tried again"


@dataclass(kw_only=True, slots=True)
class Tally:
    """How many jobs ended how."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    """With those that are set aside."""

    @property
    def all(self) -> int:
        """How many there were."""
        return self.done + self.skipped + self.failed

    def add(self, result: Result) -> None:
        """Count a result."""
        self.done += result.status == "done"
        self.skipped += result.status == "skipped"
        self.failed += result.status not in {"done", "skipped"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a job ended, when its result is where it belongs."""

    job: Job
    result: Result
    report: Report | None = None
    """What was done; None where nothing was."""
    is_news: bool = True
    """Whether the manifest does not say so yet."""


Finished = Callable[[Job, Result, "Report | None"], None]
"""Is told how a job ended."""


def run_jobs(
    engine: Engine,
    jobs: Iterable[Job],
    request: Request,
    runtime: Runtime,
    *,
    writing: Writing,
    manifest: Manifest | None,
    carrier: Carrier | None = None,
    resolution: Resolution | None = None,
    started: Callable[[Job], None] = lambda _job: None,
    finished: Finished = lambda _job, _result, _report: None,
) -> Tally:
    """Restore one picture after another. Memory does not grow with their number.

    With a manifest, a picture whose line says done under the same key, and whose output is still there, is skipped: a
    run that was stopped goes on where it was. An input whose size and time are those of its line is not read again to
    see that. `Writing.force` makes all of them again. With a `look_at_resolution`, rasters of another one fail.

    Raises:
        Cancelled: the runtime was asked to stop.
    """
    carrier = LocalDisk() if carrier is None else carrier
    all_ended = each_job(
        engine,
        jobs,
        request,
        runtime,
        writing=writing,
        known=manifest,
        carrier=carrier,
        resolution=resolution,
        started=started,
    )
    return record(all_ended, manifest, carrier, finished)


def record(
    all_ended: Iterable[Ended], manifest: Manifest | None, carrier: Carrier, finished: Finished
) -> Tally:
    """Write the lines of jobs that ended, tell of them, and count them."""
    tally = Tally()
    for ended in all_ended:
        result = ended.result
        if manifest is not None and ended.is_news:
            try:
                manifest.add(replace(result, status="done") if result.status == "skipped" else result)
                carrier.listed()
            except HypirError as err:
                result = replace(result, status="failed", error=result.error or f"restored, but {err}")
        tally.add(result)
        finished(ended.job, replace(result, output=carrier.told(result.output)), ended.report)
    return tally


def each_job(
    engine: Engine,
    jobs: Iterable[Job],
    request: Request,
    runtime: Runtime,
    *,
    writing: Writing,
    known: Manifest | None,
    carrier: Carrier,
    resolution: Resolution | None = None,
    started: Callable[[Job], None] = lambda _job: None,
) -> Iterator[Ended]:
    """Restore one picture after another, and yield how each ended; `known` is only read.

    Raises:
        Cancelled: the runtime was asked to stop.
    """
    swept: set[Path] = set()
    setting_of = RunSettings(engine, request, writing)

    def is_needed(job: Job) -> bool:
        settled = None if writing.force else _settled(job, setting_of(job), known, carrier)
        return settled is None

    for job, trouble in carrier.ahead(jobs, is_needed):
        started(job)
        begin = time.perf_counter()
        report, error, before, status = None, None, _Before(), "done"
        try:
            if trouble is not None:
                raise trouble
            if job.output.parent not in swept:
                swept.add(job.output.parent)
                sweep_leftovers(job.output.parent)
            before = _look(job, setting_of(job), None if writing.force else known, carrier)
            status = before.status
            if status == "set aside":
                error = ASIDE
            elif status == "done":
                if resolution is not None:
                    resolution.check(job)
                report = restore_file(
                    engine, job, request, runtime, writing=writing, key=before.key, again=before.is_ours
                )
        except (Cancelled, KeyboardInterrupt):
            raise
        except (
            Exception
        ) as err:  # whatever it is, it is this picture's: it is told, and the others are restored
            status, error = "failed", carrier.told(why_it_failed(err, job.source, job.output))
            log.debug("%s failed", job.source, exc_info=True)
        result = Result(
            input=carrier.told(str(job.source)),
            output=str(job.output),
            status=status,
            key=before.key,
            seconds=round(time.perf_counter() - begin, 3),
            error=error,
            compare=None if job.compare is None else str(job.compare),
            stamp=before.stamp,
            settings=before.settings,
        )
        is_news = status in {"done", "failed"} or before.is_news
        ended = Ended(job=job, result=result, report=report, is_news=is_news)
        for landed in carrier.take_away(job, ended, is_made=report is not None):
            yield _landed(*landed)
    for carried, trouble in carrier.rest():
        assert isinstance(carried, Ended)
        yield _landed(carried, trouble)


def _landed(ended: Ended, trouble: Exception | None) -> Ended:
    """Return how a job ended, now that its result is where it belongs, or could not be taken there."""
    if trouble is None:
        return ended
    error = why_it_failed(trouble, ended.job.source, ended.job.output)
    return replace(ended, result=replace(ended.result, status="failed", error=error), report=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Before:
    """What is known of a job before anything is restored."""

    status: Literal["done", "skipped", "set aside"] = "done"
    """What will stand in its line, if all goes well."""
    key: str = ""
    settings: str = ""
    stamp: Stamp | None = None
    is_ours: bool = False
    """Whether the output is there and says itself that it is this very result."""
    is_news: bool = False
    """Whether it is skipped, and the manifest does not know it with this size and time."""


def settled(job: Job, settings: str, known: Manifest | None, carrier: Carrier) -> Ended | None:
    """Return how a job ended before, if the manifest says that nothing is to be done for it; else None."""
    before = _settled(job, settings, known, carrier)
    if before is None:
        return None
    result = Result(
        input=carrier.told(str(job.source)),
        output=str(job.output),
        status=before.status,
        key=before.key,
        error=ASIDE if before.status == "set aside" else None,
        compare=None if job.compare is None else str(job.compare),
        stamp=before.stamp,
        settings=before.settings,
    )
    return Ended(job=job, result=result, is_news=False)


def _settled(job: Job, settings: str, known: Manifest | None, carrier: Carrier) -> _Before | None:
    """Return what the manifest says of a job that nothing is to be done for, without reading its input; else None."""
    if known is None:
        return None
    stamp = carrier.stamp_of(job)
    if known.is_set_aside(job.output):
        return _Before(status="set aside", stamp=stamp, settings=settings)
    if job.compare is not None and not job.compare.exists():
        return None
    key = known.unchanged(job.output, settings, stamp)
    if key is None or not carrier.is_there(job):
        return None
    return _Before(status="skipped", key=key, stamp=stamp, settings=settings)


def _look(job: Job, settings: str, known: Manifest | None, carrier: Carrier) -> _Before:
    """Return what is known of a job: first from size and time of its input, then from its content."""
    if (settled := _settled(job, settings, known, carrier)) is not None:
        return settled
    stamp = carrier.stamp_of(job)
    key = key_with(job, settings)
    made = None if known is None else _made(job, key, known)
    skipped = made is not None and (job.compare is None or job.compare.exists())
    return _Before(
        status="skipped" if skipped else "done",
        key=key,
        settings=settings,
        stamp=stamp,
        is_ours=made == "by its own words",
        is_news=skipped,
    )


def _made(job: Job, key: str, manifest: Manifest) -> Literal["as listed", "by its own words"] | None:
    """Say whether the output is there and was made under this key, and how that is known.

    Its own words count where a run was killed between the picture and its line, or before its comparison was there.
    A single output has no manifest: there an existing file is in the way.
    """
    listed = manifest.key_of(job.output)
    if listed not in {None, key} or not job.output.exists():
        return None
    try:
        said = read_text(job.output).get(KEY)
    except HypirError:
        said = None
    if said == key:
        return "by its own words"
    return "as listed" if listed == key else None
