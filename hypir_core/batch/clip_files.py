"""One clip: read, restored shot by shot, written part after part; a run that was stopped goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from torch import Tensor

from ..clip.steady import Steady
from ..clip.walk import USUAL_STEADY, Clip, frames_together
from ..engines.base import Engine
from ..errors import ConfigError, ImageFileError
from ..files.clips.encoder import look_of
from ..files.clips.formats import is_clip, packing_for
from ..files.clips.joining import check_sound
from ..files.clips.sink import ClipSink
from ..files.clips.source import ClipFrame, ClipSource, open_clip
from ..files.writing import copy_dates
from ..pipeline import restore
from ..progress import Tick, silent
from ..request import Report, Request
from ..runtime import Runtime
from .naming import Job

PART_FRAMES = 48
"""Frames of a part: so many at the most are made again after a stop; every part begins with a frame of its own."""


@dataclass(frozen=True, kw_only=True)
class ClipWriting:
    """How clips are written; None: what is usual."""

    codec: str | None = None
    """A name in `files.clips.formats.CODECS`."""
    quality: int | None = None
    """CRF: 0 best, more is smaller."""
    steady: float | None = None
    """0 to 0.95: how much flicker is kept down."""

    def check(self, job: Job) -> bool:
        """Say whether a job's source is a clip; if so, its result's name must be one of a clip.

        Raises:
            ConfigError: `steady` is out of range, or what only clips have is asked of a picture.
            ImageFileError, UnknownNameError: the result's name, codec and quality do not go together.
        """
        Steady(self.steady or 0.0)
        asked = {"--codec": self.codec, "--quality": self.quality, "--steady": self.steady}
        if is_clip(job.source):
            packing_for(job.output, bits=8, codec=self.codec, quality=self.quality)
            return True
        if job.source.is_file() and (wrong := [name for name, it in asked.items() if it is not None]):
            raise ConfigError(
                f"{job.source}: {' and '.join(wrong)} belong to clips, got a picture; leave it out"
            )
        return False


def restore_clip_file(
    engine: Engine,
    job: Job,
    request: Request,
    runtime: Runtime,
    *,
    clip: ClipWriting,
    key: str = "",
    refused: Mapping[str, bool] | None = None,
    keep_dates: bool = False,
) -> Report:
    """Restore one clip; times, sound, subtitles, chapters and colours are the input's, see `docs/how-to/clips.md`.

    Args:
        engine: loaded.
        job: what goes where.
        request: what is asked for.
        runtime: where it runs.
        clip: how it is written.
        key: hash of all that the result depends on: with it, a stopped run is gone on with.
        refused: what else was asked for, by name, that clips do not have.
        keep_dates: give the result the times of its input.

    Returns:
        The report of the first frame that was restored, with all seconds and notes.

    Raises:
        ImageFileError: the clip cannot be read, or the result cannot be written.
        ConfigError: the request, the codec and the clip do not fit.
        Cancelled: it was asked to stop; the parts that were finished stay.
        HypirError: whatever `pipeline.restore` raises.
    """
    if wrong := [name for name, it in (refused or {}).items() if it]:
        raise ConfigError(f"a clip is restored frame by frame: leave out {' and '.join(wrong)}")
    started = time.perf_counter()
    source = open_clip(job.source)
    packing = packing_for(job.output, bits=source.bits, codec=clip.codec, quality=clip.quality)
    check_sound(job.output, source)
    size_px = request.target.size_for(*source.size_hw, default_scale=engine.spec.default_scale)
    sink = ClipSink(path=job.output, look=look_of(source, size_px, packing), source=source, key=key)
    walk = _Walk(engine, source, sink, request, runtime, clip.steady)
    walk.all()
    sink.commit()
    if keep_dates:
        copy_dates(job.source, job.output)
    return walk.told(time.perf_counter() - started, lost=size_px != sink.look.size_hw)


class _Walk:
    """A clip from its source into its sink."""

    def __init__(
        self,
        engine: Engine,
        source: ClipSource,
        sink: ClipSink,
        request: Request,
        runtime: Runtime,
        steady: float | None,
    ):
        self._source, self._sink, self._request, self._runtime = source, sink, request, runtime
        self._clip = Clip(engine, steady=USUAL_STEADY if steady is None else steady)
        self._report: Report | None = None
        self._notes: dict[str, None] = {}
        self._times: dict[int, tuple[int, int]] = {}
        """Number of a frame → when and how long it is shown: of those that are worked on, and the shot's first."""

    def all(self) -> None:
        """Restore what is not there yet."""
        resumed = self._sink.frames
        frames = self._resumed() if resumed else self._source.frames()
        size_px = self._sink.look.size_hw
        together = frames_together(size_px, self._runtime.device)
        while True:
            begun = self._clip.done
            some = self._noted(islice(frames, PART_FRAMES))
            for image_01 in self._clip.restored(some, self._some, at_a_time=together):
                self._write(image_01)
            if self._clip.done == begun:
                break
            self._hand_on()
        if not self._clip.done:
            raise ImageFileError(
                f"{self._source.name}: expected a clip with frames, got none; choose another file"
            )

    def told(self, seconds: float, *, lost: bool) -> Report:
        """Return the report of the whole."""
        report = self._report
        assert report is not None
        clip, look = self._clip, self._sink.look
        counted = f"{clip.done} frame{'s' * (clip.done != 1)}, {clip.shots} shot{'s' * (clip.shots != 1)}"
        notes = [*self._sink.facts["notes"], *self._source.notes, *self._sink.notes]
        if lost:
            notes.append("the last line of an odd side is left out: the codec needs even ones")
        if look.packing.bits < self._source.bits:
            notes.append(
                f"{self._source.bits} bits became {look.packing.bits}: {look.packing.codec} has no more"
            )
        return replace(
            report,
            seconds=seconds,
            output_px=look.size_hw,
            stages=tuple(replace(stage, tiles=f"{stage.tiles}, {counted}") for stage in report.stages),
            notes=tuple(dict.fromkeys(notes)),
        )

    def _resumed(self) -> Iterator[ClipFrame]:
        """Give the next part what the last one handed on; returns the frames behind it."""
        facts, handed_on = self._sink.facts, self._sink.carried()
        first = next(self._source.frames(begin_at=int(facts["shot_at"])), None)
        if first is None:
            raise ImageFileError(
                f"{self._source.name}: expected the clip of the run before, got a shorter one"
            )
        self._clip.take_up(handed_on, first.image_01, self._some)
        self._times[self._clip.shot_began] = (first.at, first.length)
        return self._source.frames(begin_at=int(facts["last_at"]) + 1)

    def _hand_on(self) -> None:
        facts = self._sink.facts
        facts["shot_at"] = self._times[self._clip.shot_began][0]
        facts["notes"] = [*dict.fromkeys((*facts.get("notes", ()), *self._notes, *self._source.notes))]
        self._sink.end_part(self._clip.handed_on())

    def _noted(self, frames: Iterable[ClipFrame]) -> Iterator[Tensor]:
        """Yield pictures, and note when they are shown."""
        for number, frame in enumerate(frames, self._clip.done):
            self._times[number] = (frame.at, frame.length)
            yield frame.image_01

    def _some(self, engine: Engine, frames: Tensor) -> Tensor:
        runtime = replace(self._runtime, progress=silent)
        restored = restore(engine, frames, self._request, runtime)
        self._report = self._report or restored.report
        self._notes |= dict.fromkeys(restored.report.notes)
        return restored.image_01

    def _write(self, image_01: Tensor) -> None:
        number = self._clip.done - 1
        at, length = self._times[number]
        self._sink.write(image_01, at, length)
        self._sink.facts["last_at"] = at
        for old in [n for n in self._times if n <= number and n != self._clip.shot_began]:
            del self._times[old]
        total = max(self._source.expected, self._clip.done)
        tick = Tick(
            stage="frames", done=self._clip.done, total=total, canvas=image_01, whole=self._clip.done / total
        )
        self._runtime.progress(tick)
