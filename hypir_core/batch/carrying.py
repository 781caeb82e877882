"""Who brings pictures here and takes results away: nobody on a local disk, threads where they lie elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TypeVar

from .manifest import Stamp
from .naming import Job

T = TypeVar("T")

LOOKS = 1000
"""So many files on a disk may be looked at before the work."""


class Lent(Protocol):
    """A carrier for some jobs, in a form that another process can be sent."""

    def carrying(self, jobs: Sequence[Job]) -> AbstractContextManager[tuple[Carrier, list[Job]]]:
        """Give the carrier, and the jobs with the paths that they have in this process, in their order."""
        ...


class Carrier(Protocol):
    """Brings what jobs read to where they read it, and takes what they wrote to where it belongs."""

    @property
    def behind(self) -> int:
        """How many results may still be on their way while the next picture is made."""
        ...

    @property
    def looks(self) -> int:
        """How many sources may be looked at before the work: it shall take seconds."""
        ...

    def here(self, job: Job) -> AbstractContextManager[None]:
        """Have a job's source here while the block runs, so that it can be looked at.

        Raises:
            FileError: it cannot be brought.
        """
        ...

    def lent(self, jobs: Sequence[Job]) -> Lent:
        """Return a carrier for some jobs, for another process."""
        ...

    def told(self, text: str) -> str:
        """Return a path or a message with the names that a person knows."""
        ...

    def stamp_of(self, job: Job) -> Stamp | None:
        """Return size and time of a job's source where it belongs; None if they are not known."""
        ...

    def is_there(self, job: Job) -> bool:
        """Say whether the job's result is where it belongs."""
        ...

    def ahead(
        self, jobs: Iterable[Job], is_needed: Callable[[Job], bool]
    ) -> Iterator[tuple[Job, Exception | None]]:
        """Yield the jobs in their order, each when its source is here, or with what was wrong; a few in advance.

        The source of a job that is not needed is not brought.
        """
        ...

    def take_away(self, job: Job, carried: T, *, is_made: bool) -> Iterator[tuple[T, Exception | None]]:
        """Begin to take a job's result away; yield what was handed over with earlier ones that are there now.

        Args:
            job: whose files.
            carried: is given back when they are there, with what was wrong.
            is_made: whether there is a result.
        """
        ...

    def rest(self) -> Iterator[tuple[object, Exception | None]]:
        """Wait for the others, and yield them as `take_away` does."""
        ...

    def listed(self) -> None:
        """A line was added to the manifest."""
        ...


class LocalDisk:
    """Everything is here already."""

    behind = 0
    looks = LOOKS

    def here(self, job: Job) -> AbstractContextManager[None]:
        """Do nothing: it is."""
        del job
        return nullcontext()

    def lent(self, jobs: Sequence[Job]) -> LocalDisk:
        """Return itself: every machine of a run sees the same disk."""
        del jobs
        return self

    @contextmanager
    def carrying(self, jobs: Sequence[Job]) -> Iterator[tuple[LocalDisk, list[Job]]]:
        """Give itself, and the jobs as they are."""
        yield self, list(jobs)

    def told(self, text: str) -> str:
        """Return it."""
        return text

    def stamp_of(self, job: Job) -> Stamp | None:
        """Ask the disk."""
        return Stamp.of(job.source)

    def is_there(self, job: Job) -> bool:
        """Ask the disk."""
        return job.output.exists()

    def ahead(
        self, jobs: Iterable[Job], is_needed: Callable[[Job], bool]
    ) -> Iterator[tuple[Job, Exception | None]]:
        """Yield the jobs."""
        del is_needed
        return ((job, None) for job in jobs)

    def take_away(self, job: Job, carried: T, *, is_made: bool) -> Iterator[tuple[T, Exception | None]]:
        """Give it back."""
        del job, is_made
        yield carried, None

    def rest(self) -> Iterator[tuple[object, Exception | None]]:
        """Yield nothing."""
        return iter(())

    def listed(self) -> None:
        """Do nothing: the line is where it belongs."""
