"""One picture: read, restored, written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

from torch import Tensor

from ..chained import restore_through
from ..engines.base import Engine
from ..engines.chain import Chain
from ..errors import ConfigError, ImageFileError, ShapeError
from ..files.formats import PictureFormat, format_for_output
from ..files.picture import Picture, to_planes
from ..files.reading import content_hash, read_picture
from ..files.sink import open_sink
from ..files.source import PictureSource
from ..files.streams.opening import STREAMED
from ..files.writing import write_picture
from ..image.compare import compare_picture
from ..image.size import MAX_SIDE_PX
from ..pipeline import Restored
from ..request import Report, Request, picture_text
from ..runtime import Runtime
from ..streaming import LOCAL, restore_stream
from ..streaming import MAX_SIDE_PX as STREAMED_SIDE_PX
from .clip_files import ClipWriting, restore_clip_file
from .naming import Job
from .numbered import Numbered
from .scene_chain import wanted_of
from .scene_files import restore_scene_file, scene_format_of

KEY = "hypir.key"
"""Name of the text in a picture that says under which key it was made."""


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How results are written."""

    format: str | None = None
    force: bool = False
    """Overwrite existing outputs."""
    mask: Path | None = None
    """A picture of the input's size whose brightness multiplies the strength."""
    protect: Iterable[Path] = field(default=())
    """Files that are never overwritten: every input of the run; gone through at most once. The mask is one of them
    without being named."""
    keep_dates: bool = False
    """Give results the times of their inputs."""
    bits: int | None = None
    """Per sample: 8, 16 or 32 (float32) of pictures, 32 of scenes; None: those of the input."""
    bands: tuple[str, ...] = ()
    """Of scenes: which channels, by name or by number from 1 on; all without."""
    axes: str = ""
    """Of scenes: a letter for each axis of the file's array, where the file names none or wrong ones."""
    dataset: str = ""
    """Of scenes: which array of a file that holds several."""
    clip: ClipWriting = field(default_factory=ClipWriting)
    """Of clips: codec, quality, steadiness."""
    truth: Path | None = None
    """Of scenes: what the result should be, a file; or a folder with files of the inputs' names."""

    @cached_property
    def mask_hash(self) -> str | None:
        """The mask's content, read once for the run."""
        return None if self.mask is None else content_hash(self.mask)

    @cached_property
    def _inputs(self) -> Numbered:
        found = Numbered()
        for text in _identities(self.protect if self.mask is None else chain(self.protect, (self.mask,))):
            found.add(text)
        return found

    def is_input(self, path: Path) -> bool:
        """Say whether a file is one of the run's inputs, under whatever name; in the same time for any number."""
        return any(self._inputs.find(found) is not None for found in _identities([path]))


def _identities(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the device and number of each file that is there."""
    return (f"{found.st_dev} {found.st_ino}" for path in paths if (found := _stat(path)) is not None)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None  # not there: opening it says why


def restore_file(
    engine: Engine,
    job: Job,
    request: Request,
    runtime: Runtime,
    *,
    writing: Writing,
    key: str = "",
    again: bool = False,
) -> Report:
    """Read, restore and write one picture; grey stays grey, alpha is restored separately and kept.

    Scenes and clips go their own ways. A result that is longer than 16384 px goes to its file row by row, where engine
    and format can do that; otherwise the error says what it needs. The key is written into the picture.

    Args:
        engine: loaded.
        job: what goes where.
        request: what is asked for.
        runtime: where it runs.
        writing: how it is written.
        key: hash of all that the result depends on.
        again: the output is known to be this very result: it may be overwritten.

    Raises:
        ImageFileError: the picture cannot be read, or the result cannot be written.
        ConfigError: the result is too long, and cannot be written while it is made.
        HypirError: whatever `pipeline.restore` raises.
    """
    check_files(job, writing, again=again)
    wanted = wanted_of(engine.spec, bands=writing.bands, axes=writing.axes, dataset=writing.dataset)
    if writing.clip.check(job):
        return restore_clip_file(
            engine,
            job,
            request,
            runtime,
            clip=writing.clip,
            key=key,
            refused={
                "--then": isinstance(engine, Chain),
                "--format": writing.format is not None,
                "--bits": writing.bits is not None,
                "--truth": writing.truth is not None,
                "--mask": writing.mask is not None,
                "--compare": job.compare is not None,
                "--bands, --axes and --dataset": bool(writing.bands or writing.axes or writing.dataset),
            },
            keep_dates=writing.keep_dates,
        )
    found = None if job.page is not None else scene_format_of(engine.spec, job, wanted)
    if found is not None:
        return restore_scene_file(
            engine,
            job,
            request,
            runtime,
            wanted=wanted,
            format_name=found,
            key=key,
            force=writing.force or again,
            refused={"--mask": writing.mask is not None, "--compare": job.compare is not None},
            keep_dates=writing.keep_dates,
            bits=writing.bits,
            truth=writing.truth,
        )
    if writing.truth is not None:
        raise ConfigError(
            f"{job.source}: --truth belongs to stacks, volumes and rasters; for pictures: hypir eval"
        )
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
    if max(size_px) <= MAX_SIDE_PX:
        return _whole(engine, picture, job, request, runtime, chosen, writing=writing, key=key, again=again)
    if hindrances := _hindrances(engine, picture, job, request, chosen, writing):
        (h, w), longest = size_px, max(picture.size_hw)
        raise ConfigError(
            f"the result would be {w}×{h} px; above {MAX_SIDE_PX} px a side it is written while it is made, which "
            f"needs {' and '.join(hindrances)}; or choose a scale of at most {MAX_SIDE_PX / longest:.2f}"
        )
    return _streamed(engine, picture, job, request, runtime, size_px, writing=writing, key=key, again=again)


def check_files(job: Job, writing: Writing, *, again: bool = False) -> None:
    """Refuse what would be overwritten, before the work.

    Raises:
        ImageFileError: a file is an input of the run; or it exists, and may not be overwritten.
    """
    for path, mine in ((job.output, again), (job.compare, False)):
        if path is None:
            continue
        if writing.is_input(path):
            raise ImageFileError(
                f"{path}: expected an output that is not an input of this run; choose another name or folder"
            )
        if path.exists() and not (writing.force or mine):
            raise ImageFileError(f"{path} exists; use --force to overwrite it, or choose another output")


def _hindrances(
    engine: Engine, picture: Picture, job: Job, request: Request, chosen: PictureFormat, writing: Writing
) -> list[str]:
    """Return what a result needs before it can go to its file row by row; nothing where it can."""
    mode = engine.spec.color_fix if request.color_fix is None else request.color_fix
    needs = {
        "an engine that works tile by tile, such as built-in": engine.spec.streams,
        f"a format that takes rows ({', '.join(sorted(STREAMED))})": chosen.name in STREAMED,
        "a picture without an alpha channel": picture.alpha_hw is None,
        "no --mask": writing.mask is None,
        "no --compare": job.compare is None,
        f"--color-fix {' or '.join(fix.value for fix in LOCAL)}": mode in LOCAL,
    }
    return [need for need, is_met in needs.items() if not is_met]


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
    again: bool,
) -> Report:
    source = PictureSource(picture)
    sink = open_sink(
        job.output,
        size_px,
        source.channels,
        like=picture,
        format_name=writing.format,
        force=writing.force or again,
        protect=(job.source,),
        bits=writing.bits,
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
    again: bool,
) -> Report:
    color_01, alpha_01 = to_planes(picture)
    if alpha_01 is not None and alpha_01.min() < 1 and not chosen.holds_alpha:
        raise ImageFileError(
            f"{job.output}: expected a format that holds alpha (png, webp, tiff, npy), got {chosen.name}"
        )
    mask_01 = None if writing.mask is None else _read_mask(writing.mask, color_01)
    restored = restore_through(engine, color_01, request, runtime, mask_01=mask_01, alpha_01=alpha_01)
    report = _with_notes(restored.report, picture)
    lost = write_picture(
        job.output,
        restored.image_01,
        alpha_01=restored.alpha_01,
        like=picture,
        format_name=writing.format,
        text=picture_text(request, report) | {KEY: key},
        force=writing.force or again,
        protect=(job.source,),
        bits=writing.bits,
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
        text={"hypir.compare": " | ".join(labels)},
        force=writing.force,
        protect=(job.source, job.output),
    )


def _read_mask(path: Path, color_01: Tensor) -> Tensor:
    mask, _ = to_planes(read_picture(path))
    if mask.shape[-2:] != color_01.shape[-2:]:
        h, w = color_01.shape[-2:]
        raise ShapeError(
            f"{path}: the mask must be as large as the picture, {w}×{h}, got {mask.shape[-1]}×{mask.shape[-2]}"
        )
    return mask.mean(1, keepdim=True)
