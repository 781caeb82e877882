"""What a result depends on, in one hash: the same key is the same result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from ..config import to_plain
from ..engines.base import Engine
from ..request import Request
from .clip_files import ClipWriting
from .naming import Job
from .restoring import Writing
from .scene_files import source_hash


class RunSettings:
    """`settings_key` of a run's jobs: most share one, and it is made once."""

    def __init__(self, engine: Engine, request: Request, writing: Writing):
        self._of_run = (engine, request, writing)
        self._known: dict[tuple[int | None, bool], str] = {}

    def __call__(self, job: Job) -> str:
        """Return a job's."""
        which = (job.page, job.compare is not None)
        if which not in self._known:
            engine, request, writing = self._of_run
            self._known[which] = settings_key(engine, job, request, writing)
        return self._known[which]


def settings_key(engine: Engine, job: Job, request: Request, writing: Writing) -> str:
    """Return a hash of what a result depends on besides its input: request, engine, mask, page, format, comparison."""
    facts = [
        request.key(),
        engine.spec.key(),
        writing.mask_hash,
        job.page,
        writing.format,
        job.compare is not None,
        writing.bands,
        writing.axes,
        writing.dataset,
    ]
    if writing.bits is not None or writing.clip != ClipWriting():
        facts += [writing.bits, to_plain(writing.clip)]
    if writing.truth is not None:
        facts.append(str(writing.truth))
    return _hash(facts)


def key_with(job: Job, settings: str) -> str:
    """Return the key of a job whose `settings_key` is known; reads the input."""
    return _hash([source_hash(job.source), settings])


def _hash(facts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
