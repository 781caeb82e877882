"""Download weights on request: ask first, resume, verify, and only then give the file its name.

Written on the standard library rather than on huggingface_hub. That library resumes and checks the size, but
not the sha256; it knows one hub (no fall-back from mirror to mirror, no other host), and whoever uses the
feed-forward engines or ComfyUI's own models need not have it.
"""

from __future__ import annotations

import http.client
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ...errors import Cancelled, WeightsError
from .http_file import RemoteFile, TransferError, open_at, probe
from .part_file import check_room, hash_fault, part_path, remove_parts, sole_writer
from .sources import Mirror, Source, SourceFile, describe, offline_by_environment

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 18
_HEADWAY_BYTES = 1 << 20
"""A connection that brought this much before it broke does not count as a failure."""


@dataclass(frozen=True, slots=True)
class DownloadTick:
    """How far a download is."""

    path: str
    """File under way, as named in the source."""
    done_bytes: int
    """Of all files, those finished before included."""
    total_bytes: int


def silent(_tick: DownloadTick) -> None:
    """Report nothing."""


def download(
    source: Source,
    into: Path,
    *,
    confirm: Callable[[str], bool],
    progress: Callable[[DownloadTick], None] = silent,
    should_stop: Callable[[], bool] | None = None,
    offline: bool = False,
    timeout_s: float = 30.0,
    retries: int = 4,
    pause_s: float = 1.0,
) -> tuple[Path, ...]:
    """Download the files of `source` that `into` lacks, and return the paths of all of them.

    Nothing is sent before `confirm` said yes. Mirrors are tried in order; all sizes are known and the disk's
    free space is checked before the first byte. What is under way lies in ``NAME.<8 hex digits>.part`` (the
    digits stand for the exact file meant) and is resumed by the next call, also after Ctrl-C. A file takes
    its name once its size and hash are right: the pinned sha256, else the hash that the server states.

    Args:
        source: from `load_source`.
        into: folder; made if need be.
        confirm: is shown the text of `describe` and says whether to go on.
        progress: called every quarter of a megabyte.
        should_stop: asked as often; True stops as Ctrl-C does. None: never.
        offline: refuse; also set by HF_HUB_OFFLINE=1.
        timeout_s: how long to wait for a connection, or for data on it.
        retries: how often a file is taken up again after a broken connection that brought little.
        pause_s: wait before the first such retry; doubles each time, up to 30 s.

    Raises:
        Cancelled: `confirm` said no, or `should_stop` said yes.
        WeightsError: offline, no mirror could deliver (lists each one's reason), no room, no permission, or
            another process is downloading the same file.
    """
    targets = tuple(into / file.path for file in source.files)
    if all(_complete(target, file.size_bytes) for target, file in zip(targets, source.files, strict=True)):
        return targets
    if offline or offline_by_environment():
        raise WeightsError(
            f"{source.title} is not in {into} and cannot be downloaded offline; run once without --offline "
            "(and without HF_HUB_OFFLINE), or copy the files there"
        )
    if not confirm(describe(source, into)):
        raise Cancelled(f"the download of {source.title} was declined; nothing was sent")
    session = _Session(progress, should_stop, timeout_s, retries, pause_s)
    failed: list[str] = []
    for mirror in source.mirrors:
        fault = _try_mirror(source, mirror, into, session)
        if fault is None:
            return targets
        log.warning("%s failed: %s", mirror, fault)
        failed.append(f"  - {mirror}: {fault}")
    raise WeightsError(
        f"{source.title}: expected one of {len(source.mirrors)} mirrors to deliver, none did:\n"
        + "\n".join(failed)
        + "\ncheck the connection and run the same command again: it resumes"
    )


def download_said(source: Source, into: Path) -> tuple[Path, ...]:
    """Download where an option was the consent: what is fetched, from where and under which licence is logged.

    Raises:
        WeightsError: as `download`.
    """

    def say(description: str) -> bool:
        log.warning("%s", description)
        return True

    return download(source, into, confirm=say)


@dataclass(frozen=True, slots=True)
class _Session:
    """What stays the same during one call of `download`."""

    progress: Callable[[DownloadTick], None]
    should_stop: Callable[[], bool] | None
    timeout_s: float
    retries: int
    pause_s: float


@dataclass(frozen=True, slots=True)
class _Job:
    """One file to get."""

    file: SourceFile
    remote: RemoteFile
    target: Path

    @property
    def sha256(self) -> str | None:
        return self.file.sha256 or self.remote.sha256

    @property
    def part(self) -> Path:
        identity = self.sha256 or f"{self.remote.url} {self.remote.etag} {self.remote.size_bytes}"
        return part_path(self.target, identity)


def _try_mirror(source: Source, mirror: Mirror, into: Path, session: _Session) -> TransferError | None:
    """Get everything from one mirror; return why it could not deliver."""
    try:
        _from_mirror(source, mirror, into, session)
    except TransferError as err:
        return err
    return None


def _from_mirror(source: Source, mirror: Mirror, into: Path, session: _Session) -> None:
    jobs = [_job(file, mirror, into, session) for file in source.files]
    total = sum(job.remote.size_bytes for job in jobs)
    waiting = [job for job in jobs if not _complete(job.target, job.remote.size_bytes)]
    check_room(into, sum(job.remote.size_bytes - _size(job.part) for job in waiting))
    done = total - sum(job.remote.size_bytes for job in waiting)
    for job in waiting:
        _get(job, session, partial(_report, session, job.file.path, done, total))
        done += job.remote.size_bytes


def _report(session: _Session, path: str, before_bytes: int, total_bytes: int, here_bytes: int) -> None:
    session.progress(DownloadTick(path, before_bytes + here_bytes, total_bytes))
    if session.should_stop is not None and session.should_stop():
        raise Cancelled("the download was stopped; the same command resumes it")


def _job(file: SourceFile, mirror: Mirror, into: Path, session: _Session) -> _Job:
    """Ask a mirror for one file, once more if it was busy, and refuse another file than the pinned one."""
    url = mirror.url(file.path)
    try:
        remote = probe(url, timeout_s=session.timeout_s)
    except TransferError as err:
        if not err.passing:
            raise
        time.sleep(session.pause_s)
        remote = probe(url, timeout_s=session.timeout_s)
    for what, expected, got in (
        ("bytes", file.size_bytes, remote.size_bytes),
        ("sha256", file.sha256, remote.sha256),
    ):
        if expected is not None and got is not None and expected != got:
            raise TransferError(
                f"{url}: another file than the pinned one: expected {what} {expected}, got {got}"
            )
    return _Job(file, remote, into / file.path)


def _get(job: _Job, session: _Session, report: Callable[[int], None]) -> None:
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        resumed = _size(job.part) > 0
        _fill(job, session, report)
        fault = _fault(job)
        if fault and resumed:
            log.warning("%s: %s; starting over", job.part, fault)
            job.part.unlink()
            _fill(job, session, report)
            fault = _fault(job)
        if fault:
            job.part.unlink()
            raise TransferError(f"{job.remote.url}: {fault}; the file was thrown away")
        job.part.replace(job.target)
        remove_parts(job.target)
    except OSError as err:
        raise WeightsError(
            f"{err.filename or job.part}: cannot be written ({err.strerror or err}); check the permissions "
            "and the free space, or choose another folder"
        ) from err


def _fill(job: _Job, session: _Session, report: Callable[[int], None]) -> None:
    """Bring the part file to its full size, resuming as often as needed."""
    size = job.remote.size_bytes
    failures = 0
    with sole_writer(job.part) as file:
        if file.tell() > size:
            file.seek(0)
            file.truncate()
        while (before := file.tell()) < size:
            try:
                _stream(job.remote, file, session.timeout_s, report)
                reason = f"the connection ended after {file.tell()} of {size} bytes"
            except TransferError as err:
                if not err.passing:
                    raise
                reason = str(err)
            if file.tell() >= size:
                break
            failures = 0 if file.tell() - before >= _HEADWAY_BYTES else failures + 1
            if failures > session.retries:
                raise TransferError(f"{job.remote.url}: gave up after {failures} attempts: {reason}")
            log.info("%s; taking it up again", reason)
            time.sleep(min(session.pause_s * 2 ** max(failures - 1, 0), 30.0))


def _stream(remote: RemoteFile, file: BinaryIO, timeout_s: float, report: Callable[[int], None]) -> None:
    """Append one connection's worth of data; a broken one raises a passing TransferError."""
    with open_at(remote, file.tell(), timeout_s=timeout_s) as (start, stream):
        if start < file.tell():
            file.seek(start)
            file.truncate()
        while (here := file.tell()) < remote.size_bytes:
            try:
                block = stream.read(min(_BLOCK_BYTES, remote.size_bytes - here))
            except (OSError, http.client.HTTPException) as err:
                raise TransferError(
                    f"{remote.url}: broke off ({err or type(err).__name__})", passing=True
                ) from err
            if not block:
                return
            file.write(block)
            report(file.tell())


def _fault(job: _Job) -> str | None:
    """Say what is wrong with a full part file; None: its hash is right, or nobody states one."""
    if job.sha256 is None and job.remote.git_sha1 is None:
        log.warning(
            "%s: no hash is pinned and the server states none; only the size was checked", job.file.path
        )
        return None
    return hash_fault(job.part, sha256=job.sha256, git_sha1=job.remote.git_sha1)


def _complete(target: Path, size_bytes: int | None) -> bool:
    """Return whether a file is there under its final name, which it only got after its check."""
    return target.is_file() and size_bytes in {None, target.stat().st_size}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
