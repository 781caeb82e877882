"""One picture after another: a picture that fails is named, and the others are still restored."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from ..atomic import explain_os_error, sweep_leftovers
from ..engines.base import Engine
from ..errors import Cancelled, ConfigError, HypirError, ImageFileError, ShapeError
from ..files.formats import PictureFormat, format_for_output
from ..files.picture import Picture, to_planes
from ..files.reading import content_hash, pages, read_picture, read_text
from ..files.sink import open_sink
from ..files.source import PictureSource
from ..files.writing import write_picture
from ..image.compare import compare_picture
from ..image.size import MAX_SIDE_PX
from ..pipeline import Restored, restore
from ..request import Report, Request, picture_text
from ..runtime import Runtime
from ..streaming import MAX_SIDE_PX as STREAMED_SIDE_PX
from ..streaming import restore_stream
from .finding import Found
from .manifest import Manifest, Result
from .naming import Job, Plan, with_pages

log = logging.getLogger(__name__)

KEY = "hypir.key"
"""Name of the text in a picture that says under which key it was made."""

STREAMED_FORMATS = ("png", "tiff", "npy")
"""Formats that are written while their rows come."""


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How results are written."""

    format: str | None = None
    force: bool = False
    """Overwrite existing outputs."""
    mask: Path | None = None
    """A picture of the input's size whose brightness multiplies the strength."""
    protect: tuple[Path, ...] = field(default=())
    """Files that are never overwritten: every input of the run."""
    keep_dates: bool = False
    """Give results the times of their inputs."""


def not_made_before(found: Sequence[Found], out: Path, manifest: Manifest) -> list[Found]:
    """Leave out what an earlier run wrote into the output folder; what a person named stays."""
    folder = Path(os.path.abspath(out))  # noqa: PTH100

    def is_ours(one: Found) -> bool:
        whole = Path(os.path.abspath(one.path))  # noqa: PTH100
        if one.named or not whole.is_relative_to(folder):
            return False
        return manifest.made(one.path) or _says_so(one.path)

    return [one for one in found if not is_ours(one)]


def _says_so(path: Path) -> bool:
    try:
        return "hypir.report" in read_text(path)
    except HypirError:
        return False  # it is tried, and told, as any other


def every_page(plan: Plan) -> Plan:
    """Return a plan with a job for each page or frame; a file that cannot be read keeps its one job."""
    jobs: list[Job] = []
    for job in plan.jobs:
        try:
            count = pages(job.source)
        except HypirError:
            count = 1
        jobs += with_pages(job, count)
    return replace(plan, jobs=tuple(jobs))


def check_before(plan: Plan, writing: Writing, *, report: Path | None = None) -> None:
    """Refuse before the work what no picture could survive.

    Raises:
        ConfigError: the output's name does not fit its format, the report exists, a folder cannot be written to, or
            the mask is no picture.
    """
    problems = []
    if not plan.is_folder:
        try:
            format_for_output(plan.jobs[0].output, writing.format)
        except HypirError as err:
            problems.append(str(err))
    if report is not None and report.exists() and not writing.force:
        problems.append(f"{report} exists; use --force to overwrite it, or name another --report")
    inputs = {os.path.abspath(path) for path in (*writing.protect, writing.mask) if path is not None}  # noqa: PTH100
    if report is not None and os.path.abspath(report) in inputs:  # noqa: PTH100
        problems.append(f"{report} is an input; name another --report")
    folders = {_first_that_is(job.output.parent) for job in plan.jobs[:1]}
    folders |= {_first_that_is(job.compare.parent) for job in plan.jobs[:1] if job.compare is not None}
    folders |= {_first_that_is(report.parent)} if report is not None else set()
    problems += [
        f"{place} is {'not a folder' if not place.is_dir() else 'a folder that cannot be written to'}; choose another"
        for place in sorted(folders)
        if not place.is_dir() or not os.access(place, os.W_OK)
    ]
    if writing.mask is not None:
        try:
            read_picture(writing.mask)
        except HypirError as err:
            problems.append(f"--mask: {err}")
    if problems:
        raise ConfigError(problems)


def _first_that_is(folder: Path) -> Path:
    return next((place for place in (folder, *folder.parents) if place.exists()), Path())


def run_jobs(
    engine: Engine,
    jobs: Iterable[Job],
    request: Request,
    runtime: Runtime,
    *,
    writing: Writing,
    manifest: Manifest | None,
    started: Callable[[Job], None] = lambda _job: None,
    finished: Callable[[Job, Result, Report | None], None] = lambda _job, _result, _report: None,
) -> list[Result]:
    """Restore one picture after another.

    With a manifest, a picture whose line says done under the same key, and whose output is still there, is skipped: a
    run that was stopped goes on where it was. `Writing.force` makes all of them again.

    Raises:
        Cancelled: the runtime was asked to stop.
    """
    results = []
    swept: set[Path] = set()
    for job in jobs:
        started(job)
        begin = time.perf_counter()
        report, key, status, error = None, "", "done", None
        try:
            if job.output.parent not in swept:
                swept.add(job.output.parent)
                sweep_leftovers(job.output.parent)
            key = job_key(engine, job, request, writing)
            if (
                not writing.force
                and key in _known_keys(job, manifest)
                and job.output.exists()
                and (job.compare is None or job.compare.exists())
            ):
                status = "skipped"
            else:
                report = restore_file(engine, job, request, runtime, writing=writing, key=key)
        except (Cancelled, KeyboardInterrupt):
            raise
        except (
            Exception
        ) as err:  # whatever it is, it is this picture's: it is told, and the others are still restored
            status, error = "failed", _told(job, err)
            log.debug("%s failed", job.source, exc_info=True)
        result = Result(
            input=str(job.source),
            output=str(job.output),
            status=status,
            key=key,
            seconds=round(time.perf_counter() - begin, 3),
            error=error,
        )
        if manifest is not None and status != "skipped":
            try:
                manifest.add(result)
            except HypirError as err:
                result = replace(result, status="failed", error=result.error or f"restored, but {err}")
        results.append(result)
        finished(job, result, report)
    return results


def _told(job: Job, err: Exception) -> str:
    """Return what went wrong, one line, without the picture's name at its head."""
    if isinstance(err, OSError) and not isinstance(err, HypirError):
        path = Path(os.fsdecode(err.filename)) if err.filename else job.output
        return explain_os_error(path, err)
    text = " ".join(str(err).split()) or type(err).__name__
    if not isinstance(err, HypirError):
        text = f"{type(err).__name__}: {text}"
    return text.removeprefix(f"{job.source}: ")


def job_key(engine: Engine, job: Job, request: Request, writing: Writing) -> str:
    """Return a hash of all that a result depends on: input, request, engine, mask, page, format, and the comparison."""
    facts = [
        content_hash(job.source),
        request.key(),
        engine.spec.key(),
        None if writing.mask is None else content_hash(writing.mask),
        job.page,
        writing.format,
        job.compare is not None,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _known_keys(job: Job, manifest: Manifest | None) -> tuple[str | None, ...]:
    """Return the keys under which an output was made: what the manifest says, and what the picture says itself.

    The second counts where a run was killed between the picture and its line. A single output has no manifest: there
    an existing file is in the way.
    """
    if manifest is None or not job.output.exists():
        return ()
    known = manifest.key_of(job.output)
    if known is not None:
        return (known,)
    try:
        return (read_text(job.output).get(KEY),)
    except HypirError:
        return ()


def restore_file(
    engine: Engine, job: Job, request: Request, runtime: Runtime, *, writing: Writing, key: str = ""
) -> Report:
    """Read, restore and write one picture; grey stays grey, alpha is restored separately and kept.

    A result that is longer than 16384 px goes to its file row by row, where engine and format can do that. The key is
    written into the picture.

    Raises:
        ImageFileError: the picture cannot be read, or the result cannot be written.
        HypirError: whatever `pipeline.restore` raises.
    """
    if job.output.exists() and not writing.force:
        raise ImageFileError(f"{job.output} exists; use --force to overwrite it, or choose another output")
    picture = read_picture(job.source, page=job.page)
    chosen = format_for_output(job.output, writing.format)
    size_px = request.target.size_for(
        *picture.size_hw, default_scale=engine.spec.default_scale, max_side_px=STREAMED_SIDE_PX
    )
    if chosen.max_side_px is not None and max(size_px) > chosen.max_side_px:
        raise ImageFileError(
            f"{job.output}: the result would be {size_px[1]}×{size_px[0]} px, and {chosen.name} holds at most "
            f"{chosen.max_side_px} px a side; write png or tiff, or ask for less"
        )
    if max(size_px) > MAX_SIDE_PX and _can_stream(engine, picture, job, request, chosen, writing):
        report = _streamed(engine, picture, job, request, runtime, size_px, writing=writing, key=key)
    else:
        report = _whole(engine, picture, job, request, runtime, chosen, writing=writing, key=key)
    return report


def _can_stream(
    engine: Engine, picture: Picture, job: Job, request: Request, chosen: PictureFormat, writing: Writing
) -> bool:
    plain = picture.alpha_hw is None and writing.mask is None and job.compare is None
    return plain and engine.spec.streams and chosen.name in STREAMED_FORMATS and request.color_fix is None


def _streamed(
    engine: Engine,
    picture: Picture,
    job: Job,
    request: Request,
    runtime: Runtime,
    size_px: tuple[int, int],
    *,
    writing: Writing,
    key: str,
) -> Report:
    source = PictureSource(picture)
    sink = open_sink(
        job.output,
        size_px,
        source.channels,
        like=picture,
        format_name=writing.format,
        force=writing.force,
        protect=(job.source, *writing.protect),
        keep_dates=writing.keep_dates,
    )
    try:
        report = _with_notes(restore_stream(engine, source, sink, request, runtime), picture)
        sink.text = picture_text(request, report) | {KEY: key}
        sink.commit()
    except BaseException:
        sink.abort()
        raise
    return _with_notes(report, sink)


def _whole(
    engine: Engine,
    picture: Picture,
    job: Job,
    request: Request,
    runtime: Runtime,
    chosen: PictureFormat,
    *,
    writing: Writing,
    key: str,
) -> Report:
    color_01, alpha_01 = to_planes(picture)
    if alpha_01 is not None and alpha_01.min() < 1 and not chosen.holds_alpha:
        raise ImageFileError(
            f"{job.output}: expected a format that holds alpha (png, webp, tiff, npy), got {chosen.name}"
        )
    mask_01 = None if writing.mask is None else _read_mask(writing.mask, color_01)
    restored = restore(engine, color_01, request, runtime, mask_01=mask_01, alpha_01=alpha_01)
    report = _with_notes(restored.report, picture)
    lost = write_picture(
        job.output,
        restored.image_01,
        alpha_01=restored.alpha_01,
        like=picture,
        format_name=writing.format,
        text=picture_text(request, report) | {KEY: key},
        force=writing.force,
        protect=(job.source, *writing.protect),
        keep_dates=writing.keep_dates,
    )
    if job.compare is not None:
        _write_comparison(engine, job, job.compare, color_01, restored, writing=writing)
    return replace(report, notes=(*report.notes, *lost))


def _with_notes(report: Report, said: object) -> Report:
    return replace(report, notes=(*getattr(said, "notes", ()), *report.notes))


def _write_comparison(
    engine: Engine, job: Job, target: Path, before_01: Tensor, restored: Restored, *, writing: Writing
) -> None:
    labels = ("before", f"after: {engine.spec.name}")
    write_picture(
        target,
        compare_picture(before_01, restored.image_01, labels=labels),
        format_name="png",
        force=writing.force,
        protect=(job.source, job.output, *writing.protect),
    )


def _read_mask(path: Path, color_01: Tensor) -> Tensor:
    mask, _ = to_planes(read_picture(path))
    if mask.shape[-2:] != color_01.shape[-2:]:
        h, w = color_01.shape[-2:]
        raise ShapeError(
            f"{path}: the mask must be as large as the picture, {w}×{h}, got {mask.shape[-1]}×{mask.shape[-2]}"
        )
    return mask.mean(1, keepdim=True)
