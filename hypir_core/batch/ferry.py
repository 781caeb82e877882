"""Between stores and a folder of this disk: some sources come in advance, and results go while the next is made."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from .carrying import LOOKS
from .listed import Listed
from .made import Stamp
from .naming import Job
from .store import Store

T = TypeVar("T")

READ_AHEAD = 8
"""So many sources are here or on their way, at most."""

WRITE_BEHIND = 8
"""So many results wait to be sent, at most."""

LOOKS_ELSEWHERE = 4
"""So many sources are brought to be looked at before the work; for that each is fetched whole, and again in its turn."""

THREADS = 4


class Ferry:
    """Carries between stores and a folder on this disk that holds only what is on its way."""

    behind = WRITE_BEHIND

    def __init__(
        self,
        stage: Path,
        source: Store | None,
        target: Store | None,
        *,
        found: Listed,
        there: Listed,
        force: bool,
    ):
        """Begin with nothing on its way.

        Args:
            stage: the folder; sources come to `stage/in`, results are made in `stage/out`.
            source: where sources are; None: on this disk.
            target: where results belong; None: on this disk.
            found: what the source held when it was listed.
            there: what the target did.
            force: results are made without a look at those that are there.
        """
        self._stage, self._source, self._target, self._force = stage, source, target, force
        self._found, self._there = found, there
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="hypir-carry")
        self._behind: deque[tuple[Any, Future[None]]] = deque()

    @property
    def looks(self) -> int:
        """How many sources may be looked at before the work."""
        return LOOKS if self._source is None else LOOKS_ELSEWHERE

    @contextmanager
    def here(self, job: Job) -> Iterator[None]:
        """Have a job's source on this disk while the block runs.

        Raises:
            FileError: it cannot be brought.
        """
        if self._source is None:
            yield
            return
        try:
            self._source.fetch(self._place(job.source, "in"), job.source)
            yield
        finally:
            job.source.unlink(missing_ok=True)

    def told(self, text: str) -> str:
        """Put the URLs in place of this disk's folder."""
        for store, name in ((self._source, "in"), (self._target, "out")):
            if store is not None:
                text = text.replace(os.path.join(self._stage, name, ""), f"{store.url}/")  # noqa: PTH118
        return text

    def stamp_of(self, job: Job) -> Stamp | None:
        """Return what the store said when it was listed."""
        return (
            Stamp.of(job.source) if self._source is None else self._found.get(self._place(job.source, "in"))
        )

    def is_there(self, job: Job) -> bool:
        """Say whether the store had the result when it was listed."""
        return job.output.exists() if self._target is None else self._place(job.output, "out") in self._there

    def ahead(
        self, jobs: Iterable[Job], is_needed: Callable[[Job], bool]
    ) -> Iterator[tuple[Job, Exception | None]]:
        """Yield the jobs in their order; `READ_AHEAD` of them are fetched in advance."""
        waiting: deque[tuple[Job, Future[None] | None]] = deque()
        for job in jobs:
            waiting.append((job, self._pool.submit(self._fetch, job) if is_needed(job) else None))
            if len(waiting) >= READ_AHEAD:
                yield _fetched(*waiting.popleft())
        while waiting:
            yield _fetched(*waiting.popleft())

    def take_away(self, job: Job, carried: T, *, is_made: bool) -> Iterator[tuple[T, Exception | None]]:
        """Begin to send a result; with `WRITE_BEHIND` on their way, wait for the first of them."""
        self._behind.append((carried, self._pool.submit(self._send, job, is_made)))
        while self._behind and (len(self._behind) > WRITE_BEHIND or self._behind[0][1].done()):
            yield self._sent()

    def rest(self) -> Iterator[tuple[object, Exception | None]]:
        """Wait for the others."""
        while self._behind:
            yield self._sent()

    def lent(self, jobs: Sequence[Job]) -> LentFerry:
        """Return a ferry for some jobs, for another process."""
        found, there = Listed(), Listed()
        for job in jobs:
            if self._source is not None and (stamp := self.stamp_of(job)) is not None:
                found.add(self._place(job.source, "in"), stamp)
            if self._target is not None and (stamp := self._there.get(self._place(job.output, "out"))):
                there.add(self._place(job.output, "out"), stamp)
        return LentFerry(
            stage=self._stage,
            source=self._source,
            target=self._target,
            found=found,
            there=there,
            force=self._force,
        )

    def listed(self) -> None:
        """Do nothing: whoever writes the manifest sends it."""

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _sent(self) -> tuple[Any, Exception | None]:
        carried, future = self._behind.popleft()
        return carried, _trouble(future)

    def _fetch(self, job: Job) -> None:
        if self._source is not None:
            self._source.fetch(self._place(job.source, "in"), job.source)
        if self._target is not None and not self._force:
            place = self._place(job.output, "out")
            if place in self._there:  # it may say itself that it is this very result
                self._target.fetch(place, job.output)

    def _send(self, job: Job, is_made: bool) -> None:
        try:
            if is_made and self._target is not None:
                self._target.put(job.output, self._place(job.output, "out"))
        finally:
            if self._source is not None:
                job.source.unlink(missing_ok=True)
            if self._target is not None:
                job.output.unlink(missing_ok=True)

    def _place(self, path: Path, which: str) -> str:
        return path.relative_to(self._stage / which).as_posix()


@dataclass(frozen=True, kw_only=True)
class LentFerry:
    """A ferry for some jobs of a run, in a form that another process can be sent."""

    stage: Path
    """Of the run; its paths stand in the jobs."""
    source: Store | None
    target: Store | None
    found: Listed
    there: Listed
    force: bool

    @contextmanager
    def carrying(self, jobs: Sequence[Job]) -> Iterator[tuple[Ferry, list[Job]]]:
        """Give the ferry and the jobs with paths in a folder of this process, which goes when the block ends.

        On the run's own machine the folder lies in the run's, which goes even if this process is killed.
        """
        beside = self.stage if self.stage.is_dir() else None
        with TemporaryDirectory(prefix="hypir-", dir=beside) as folder:
            stage = Path(folder)
            ferry = Ferry(
                stage, self.source, self.target, found=self.found, there=self.there, force=self.force
            )
            try:
                yield ferry, [self._moved(job, stage) for job in jobs]
            finally:
                ferry.close()

    def _moved(self, job: Job, stage: Path) -> Job:
        source = job.source if self.source is None else stage / job.source.relative_to(self.stage)
        output = job.output if self.target is None else stage / job.output.relative_to(self.stage)
        return replace(job, source=source, output=output)


def _fetched(job: Job, future: Future[None] | None) -> tuple[Job, Exception | None]:
    return job, None if future is None else _trouble(future)


def _trouble(future: Future[None]) -> Exception | None:
    err = future.exception()
    if err is not None and not isinstance(err, Exception):
        raise err
    return err
