"""One run over a Ray cluster: an engine in each worker, pictures leased to them a few at a time.

A worker that dies is replaced, and what it did not finish is leased again: a result gets its name in one rename and says
itself what it is, so nothing is lost, and only the picture that a dead worker had in hand is made twice; of results that
go to a store, also those that were on their way. A picture that ended two workers is set aside.
"""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import HypirError
from .carrying import Carrier, Lent, LocalDisk
from .cluster import joined, workers_of
from .keys import RunSettings
from .manifest import Manifest, Result
from .naming import Job
from .resolutions import Resolution, look_at_resolution
from .restoring import Writing
from .running import Ended, Finished, Tally, each_job, record, settled
from .work import Work

LEASE = 16
"""So many pictures a worker gets at a time, at most."""

LEASE_ELSEWHERE = 64
"""The same where they are fetched and sent: with each lease a worker waits for the first and for the last of it."""

KILLS = 2
"""So many workers a picture may end before it is set aside."""

STARTS = 3
"""So many workers may die one after another before one of them could load the engine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined:
    """A worker that has loaded its engine."""

    process: int
    """Its number on its machine."""
    host: str


def run_on_ray(
    work: Work,
    jobs: Sequence[Job],
    *,
    address: str,
    cpus: int,
    writing: Writing,
    manifest: Manifest,
    carrier: Carrier | None = None,
    joining: Callable[[Joined], None] = lambda _worker: None,
    finished: Finished = lambda _job, _result, _report: None,
) -> Tally:
    """Restore pictures on a cluster whose machines all see the same files or URLs; the manifest is written here.

    Args:
        work: what is done.
        jobs: what goes where.
        address: ``auto``: the cluster of this machine, or one for the run; else ``HOST:PORT`` of its head.
        cpus: of a worker, where the cluster has no GPU; with GPUs a worker has one.
        writing: how results are written.
        manifest: of the output folder.
        carrier: brings and takes away; each worker has one like it. None: the files are on a disk that all see.
        joining: is told of each worker.
        finished: is told of each picture.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigError: no head answers at the address; a setting is wrong, as a worker found; or the rasters that could be
            looked at are of two resolutions.
        HypirError: the engine cannot be loaded.
    """
    carrier = LocalDisk() if carrier is None else carrier
    with joined(address) as ray:
        count, options = workers_of(ray, cpus)
        crew = _Crew(ray, work, replace(writing, protect=()), manifest.path.parent, options, joining)
        run = _Run(crew, jobs, writing, manifest, work, carrier)
        try:
            return record(run.all_ended(count), manifest, carrier, finished)
        finally:
            crew.dismiss()


class Worker:
    """What runs in a process of the cluster."""

    def __init__(self, work: Work, writing: Writing, folder: Path):
        self._work, self._writing, self._folder = work, writing, folder

    def load(self) -> tuple[int, str, Any]:
        """Load the engine; return process, machine, and the engine's spec."""
        self._engine = self._work.load()
        return os.getpid(), socket.gethostname(), self._engine.spec

    def restore(self, jobs: list[Job], lent: Lent, resolution: Resolution) -> Iterator[Ended]:
        """Restore pictures, and yield how each ended. What says itself that it is the very result is kept."""
        nothing = Manifest(self._folder / ".hypir-nothing.jsonl")
        with lent.carrying(jobs) as (carrier, here):
            asked = dict(zip(here, jobs, strict=True))
            for ended in each_job(
                self._engine,
                here,
                self._work.request,
                self._work.runtime(),
                writing=self._writing,
                known=nothing,
                carrier=carrier,
                resolution=resolution,
            ):
                job = asked[ended.job]
                yield replace(ended, job=job, result=replace(ended.result, output=str(job.output)))


@dataclass(eq=False, slots=True)
class _Hand:
    """A worker as the run sees it."""

    actor: Any
    ref: Any
    """What it is waited for: its engine, or its next result."""
    lease: deque[Job] | None = None
    """What it has not finished; None while it loads."""


class _Crew:
    """The workers of a run."""

    def __init__(
        self,
        ray: Any,
        work: Work,
        writing: Writing,
        folder: Path,
        options: dict[str, Any],
        joining: Callable[[Joined], None],
    ):
        self.ray, self._joining = ray, joining
        self._actor = ray.remote(Worker).options(max_restarts=0, max_task_retries=0, **options)
        self._given = (ray.put(work), ray.put(writing), folder)
        self.hands: list[_Hand] = []
        self._dead_starts = 0

    def hire(self) -> None:
        """Start a worker."""
        actor = self._actor.remote(*self._given)
        self.hands.append(_Hand(actor=actor, ref=actor.load.remote()))

    def lease(self, hand: _Hand, jobs: list[Job], lent: Lent, resolution: Resolution) -> None:
        """Give a worker pictures."""
        hand.lease = deque(jobs)
        hand.ref = hand.actor.restore.options(num_returns="streaming").remote(jobs, lent, resolution)

    def next_word(self) -> tuple[_Hand, Any] | None:
        """Wait for a worker: return it and its engine's spec, how a picture ended, `DONE` or `DEAD`.

        None if nothing was heard for a second.

        Raises:
            HypirError: the engine cannot be loaded.
        """
        ready, _ = self.ray.wait([hand.ref for hand in self.hands], num_returns=1, timeout=1.0)
        if not ready:
            return None
        hand = next(hand for hand in self.hands if hand.ref is ready[0] or hand.ref == ready[0])
        try:
            if hand.lease is not None:
                return hand, self.ray.get(next(hand.ref))
            process, host, spec = self.ray.get(hand.ref)
        except StopIteration:
            if not hand.lease:
                return hand, DONE
            self.hands.remove(hand)  # its stream ended before its pictures did
            self.ray.kill(hand.actor)
            return hand, DEAD
        except self.ray.exceptions.RayActorError as err:
            self.hands.remove(hand)
            self._dead_starts += hand.lease is None
            if self._dead_starts >= STARTS:
                raise HypirError(
                    f"{STARTS} workers died while they loaded the engine, last: {_one_line(err)}; give them more memory"
                ) from err
            return hand, DEAD
        except self.ray.exceptions.RayTaskError as err:
            if isinstance(err.cause, HypirError):
                raise err.cause from None
            raise
        self._dead_starts = 0
        self._joining(Joined(process=process, host=host))
        return hand, spec

    def dismiss(self) -> None:
        """End all workers."""
        for hand in self.hands:
            self.ray.kill(hand.actor)
        self.hands.clear()


DONE, DEAD = object(), object()


class _Run:
    """Which picture is where."""

    def __init__(
        self,
        crew: _Crew,
        jobs: Sequence[Job],
        writing: Writing,
        manifest: Manifest,
        work: Work,
        carrier: Carrier,
    ):
        self._crew, self._writing, self._manifest, self._work = crew, writing, manifest, work
        self._carrier = carrier
        self._all, self._jobs, self._total = jobs, iter(jobs), len(jobs)
        self._again: deque[list[Job]] = deque()
        """Leases that dead workers left."""
        self._kills: Counter[Path] = Counter()
        self._settings: RunSettings | None = None
        self._resolution: Resolution | None = None
        """Known, as the settings are, when the first worker has loaded the engine."""
        self._is_dry = not self._total
        """Nothing is left that was not leased before."""
        self._told: deque[Ended] = deque()
        """What ended without a worker."""

    def all_ended(self, count: int) -> Iterator[Ended]:
        """Yield how each picture ended, with so many workers."""
        most = LEASE_ELSEWHERE if self._carrier.behind else LEASE
        self._lease_size = max(1, min(most, self._total // (count * 4)))
        for _ in range(min(count, self._total)):
            self._crew.hire()
        while self._is_work_left():
            word = self._crew.next_word()
            if word is None:
                self._go_on_without_their_word()
                continue
            hand, said = word
            if isinstance(said, Ended):
                assert hand.lease is not None
                hand.lease.popleft()
                yield said
            elif said is DEAD:
                self._take_over(hand)
                if self._again or not self._is_dry:
                    self._crew.hire()
            else:
                if self._settings is None:
                    engine: Any = SimpleNamespace(spec=said)
                    self._resolution = look_at_resolution(self._all, said, self._writing, self._carrier)
                    self._settings = RunSettings(engine, self._work.request, self._writing)
                self._give(hand)
            while self._told:
                yield self._told.popleft()

    def _go_on_without_their_word(self) -> None:
        """Take workers for done whose pictures all ended, though the end of their lease was not heard of."""
        for hand in list(self._crew.hands):
            if hand.lease is not None and not hand.lease:
                self._give(hand)

    def _is_work_left(self) -> bool:
        return (
            bool(self._again) or not self._is_dry or any(hand.lease is not None for hand in self._crew.hands)
        )

    def _give(self, hand: _Hand) -> None:
        lease = self._again.popleft() if self._again else list(islice(self._open(), self._lease_size))
        if lease:
            assert self._resolution is not None
            self._crew.lease(hand, lease, self._carrier.lent(lease), self._resolution)
            return
        self._is_dry = True
        self._crew.hands.remove(hand)
        self._crew.ray.kill(hand.actor)

    def _open(self) -> Iterator[Job]:
        """Yield the pictures that nothing is known of; tell the others."""
        assert self._settings is not None
        known = None if self._writing.force else self._manifest
        for job in self._jobs:
            settings = self._settings(job)
            before = settled(job, settings, known, self._carrier)
            if before is not None:
                self._told.append(before)
            elif self._writing.is_input(job.output):
                self._tell(
                    job, "failed", f"{job.output}: expected an output that is not an input of this run"
                )
            else:
                yield job

    def _take_over(self, hand: _Hand) -> None:
        """Lease again what a dead worker left. What it had in hand goes alone: it may be the cause.

        That is one picture, and where results are sent while the next is made, those that were on their way: which of
        them it was nobody knows, and alone all but the cause will be made.
        """
        if not hand.lease:
            return
        suspects = [hand.lease.popleft() for _ in range(min(len(hand.lease), self._carrier.behind + 1))]
        if hand.lease:
            self._again.append(list(hand.lease))
        for suspect in suspects:
            self._kills[suspect.output] += 1
            if self._kills[suspect.output] >= KILLS:
                said = f"it ended {KILLS} workers and is set aside; see `hypir manifest retry-failed`"
                self._tell(suspect, "set aside", said)
            else:
                self._again.append([suspect])

    def _tell(self, job: Job, status: str, error: str) -> None:
        told = self._carrier.told
        result = Result(
            input=told(str(job.source)), output=str(job.output), status=status, key="", error=told(error)
        )
        self._told.append(Ended(job=job, result=result))


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split())[:200]
