"""A clip that is read: what it is, and its frames with their times, one after the other.

The end of a clip is found by reading. Where a file is damaged or cut off, what can be read is given, and it is said
where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from ...errors import ImageFileError, MissingDependencyError
from ..formats import HEAD_BYTES, likeness
from ..opening import open_file
from .colors import Colors, bits_of, colors_of, has_alpha, to_image

MISSING_S = 0.25
"""A clip that ends so much before the end that its file names was cut off."""

NAMES_ITS_END = ("mov", "matroska", "avi", "asf", "flv")
"""How FFmpeg's names of those files begin; the end of others is guessed."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipFrame:
    """One picture of a clip."""

    image_01: Tensor
    """[1 3 h w] float32 in [0,1], upright."""
    at: int
    """When it is shown, in the clip's units, from the clip's start on."""
    length: int
    """How long, in the same units; 0 where the file does not say."""


@dataclass(kw_only=True, eq=False)
class ClipSource:
    """A clip file; nothing is open between the calls."""

    file: Path | IO[bytes]
    name: str
    """What messages call it."""
    stream: int
    """Which stream of the file the pictures are."""
    size_hw: tuple[int, int]
    """Of an upright frame, in pixels."""
    turns: int
    """Quarter turns, counter-clockwise, that make a stored frame upright."""
    bits: int
    """Per sample: 8, 10, 12 …"""
    colors: Colors
    unit: Fraction
    """Seconds of one unit of time."""
    start: int
    """The clip's start in the file's own time, in units."""
    length: int | None
    """Of the part that is read, in units; None to the end of the file."""
    is_part: bool
    """Whether the file holds more than is read."""
    rate: Fraction
    """Frames per second, on average."""
    expected: int
    """About how many frames there are; a file may say it wrongly."""
    aspect: Fraction | None
    """Width of an upright pixel ÷ its height; None where it is 1 or unsaid."""
    is_timed: bool
    """Whether the file says when each frame is shown; otherwise they are counted."""
    notes: list[str] = field(default_factory=list)
    """What a result lacks, one sentence each; complete after the last frame."""

    @property
    def window(self) -> tuple[Fraction, Fraction | None]:
        """From when to when the file is read, in seconds of its own time; None: to the end."""
        begin = self.start * self.unit
        return begin, None if self.length is None else begin + self.length * self.unit

    def frames(self, *, begin_at: int = 0) -> Iterator[ClipFrame]:
        """Yield the frames in the order in which they are shown, few in memory at a time.

        Args:
            begin_at: in units from the start: earlier frames are passed over, without being looked at where possible.

        Raises:
            ImageFileError: the disk fails.
        """
        if (begin_at or self.is_part) and self.is_timed:
            for frame in self._from(begin_at, seek=True):
                if frame is None:
                    break
                yield frame
            else:
                return
        yield from filter(None, self._from(begin_at, seek=False))

    def _from(self, begin_at: int, *, seek: bool) -> Iterator[ClipFrame | None]:
        """Yield the frames; None, and no more, where a file could not be entered before the first that is wanted."""
        step = max(1, round(1 / (self.rate * self.unit)))
        next_at, last_at = 0, None
        with opened(self.file, self.name) as container:
            stream = container.streams[self.stream]
            stream.thread_type = "AUTO"
            if seek:
                container.seek(self.start + begin_at, stream=stream)
            for frame in self._decoded(container, stream, from_start=not seek):
                at = frame.pts - self.start if self.is_timed and frame.pts is not None else next_at
                if (
                    seek and last_at is None and at > begin_at
                ):  # not every kind of file can be entered anywhere
                    yield None
                    return
                at = at if last_at is None or at > last_at else last_at + 1
                if self.length is not None and at >= self.length:
                    return
                next_at, last_at = at + step, at
                if at < begin_at and (begin_at or self.is_part):
                    continue
                image_01 = to_image(frame, self.colors, turns=self.turns)
                if (image_01.shape[-2], image_01.shape[-1]) != self.size_hw:
                    self._say(f"stopped at {self._told(at)}: its frames have another size from there on")
                    return
                yield ClipFrame(image_01, at, frame_length(frame, self.unit))

    def _decoded(self, container: Any, stream: Any, *, from_start: bool) -> Iterator[Any]:
        """Yield whole frames; damaged packets are passed over, and told."""
        from av.error import FFmpegError

        packets = damaged = 0
        end_s, shown = Fraction(0), None
        try:
            for packet in container.demux():  # all streams: sound may be longer than the pictures
                if packet.pts is not None and packet.time_base is not None:
                    end_s = max(end_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream.index != stream.index:
                    continue
                packets += packet.size > 0
                try:
                    frames = packet.decode()
                except FFmpegError:
                    damaged += 1
                    continue
                for frame in frames:
                    damaged += frame.is_corrupt
                    if not frame.is_corrupt:
                        shown = frame.pts
                        yield frame
        except FFmpegError as err:
            if isinstance(err, OSError) and not isinstance(err, EOFError):
                raise ImageFileError(
                    f"{self.name}: expected a file that can be read, got: {err.strerror}; check the disk"
                ) from err
            damaged += 1
        stopped = "at its first frame" if shown is None else f"at {self._told(shown - self.start)}"
        if damaged:
            self._say(f"{damaged} damaged part{'s were' if damaged > 1 else ' was'} passed over")
        if not self.is_part and is_cut_off(container, stream, packets if from_start else None, end_s):
            self._say(f"stopped {stopped}: the rest of the file is missing")

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _told(self, at: int) -> str:
        seconds = float(at * self.unit)
        return f"{int(seconds // 60)}:{seconds % 60:05.2f}"


def open_clip(
    file: Path | IO[bytes], *, name: str | None = None, begin_s: float = 0.0, length_s: float = 0.0
) -> ClipSource:
    """Look at a clip: its first frame is decoded.

    Args:
        file: a path, or an open file that can seek.
        name: what messages call it; by default the path.
        begin_s: what comes before is left out.
        length_s: of the part that is meant, in seconds; 0: to the end.

    Raises:
        MissingDependencyError: PyAV is not installed.
        ImageFileError: it is no clip, has no pictures, or none that can be decoded.
    """
    called = name or str(file)
    if isinstance(file, Path):
        with open_file(file) as head_of:
            head = head_of.read(HEAD_BYTES)
        if not head:
            raise ImageFileError(
                f"{called}: expected a clip, got an empty file; copy it again from its source"
            )
    else:
        head = b""
    with opened(file, called, head=head) as container:
        stream = next((s for s in container.streams.video if not is_cover(s)), None)
        if stream is None:
            kinds = sorted({s.type for s in container.streams if not is_cover(s)})
            raise ImageFileError(
                f"{called}: expected a clip with pictures, got a file with {' and '.join(kinds) or 'nothing'} only; "
                "choose another file"
            )
        frame = _first_frame(container, stream, called)
        unit = Fraction(stream.time_base)
        begin = max(0, round(Fraction(container.start_time or 0, 1_000_000) / unit)) + round(
            Fraction(begin_s) / unit
        )
        turns = (
            round(getattr(frame, "rotation", 0) / 90) % 4
        )  # how a telephone was held; not in older versions
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        seconds = length_s or max(0.0, _seconds_of(container, stream) - begin_s)
        counted = stream.frames if not (begin_s or length_s) else 0
        upright = (frame.height, frame.width) if turns % 2 == 0 else (frame.width, frame.height)
        source = ClipSource(
            file=file,
            name=called,
            stream=stream.index,
            size_hw=upright,
            turns=turns,
            bits=bits_of(frame),
            colors=colors_of(frame),
            unit=unit,
            start=begin,
            length=round(Fraction(length_s) / unit) if length_s else None,
            is_part=bool(begin_s or length_s),
            rate=rate,
            expected=counted or max(1, round(seconds * float(rate))),
            aspect=None if aspect in (0, 1) else 1 / aspect if turns % 2 else aspect,
            is_timed=frame.pts is not None,
        )
    if frame.interlaced_frame:
        source.notes.append("its frames are interlaced; deinterlace it first for a better result")
    if has_alpha(frame):
        source.notes.append("its alpha channel is left out")
    return source


@contextmanager
def opened(file: Path | IO[bytes], name: str, *, head: bytes = b"") -> Iterator[Any]:
    """Open a clip's container for reading.

    Raises:
        MissingDependencyError: PyAV is not installed.
        ImageFileError: it cannot be opened; `head`, its first bytes, say what it is instead.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as err:
        raise MissingDependencyError("av", "video", "a clip") from err
    if not isinstance(file, Path):
        file.seek(0)
    try:
        # With its protocol: FFmpeg would take "a:b.mp4" for one called "a".
        container = av.open(f"file:{file}" if isinstance(file, Path) else file)
    except (FFmpegError, OSError) as err:
        what, advice = likeness(head)
        what = "one that is damaged or cut off" if what == "a video" or not head else what
        advice = "copy it again from its source" if what.startswith("one") else advice
        raise ImageFileError(f"{name}: expected a clip that can be read, got {what}; {advice}") from err
    with container:
        yield container


def is_cover(stream: Any) -> bool:
    """Say whether a stream is a picture that belongs to sound, such as the cover of an album."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def is_cut_off(container: Any, stream: Any, packets: int | None, end_s: Fraction) -> bool:
    """Say whether a file held less than it names.

    Args:
        container: open, read to its end.
        stream: of the pictures.
        packets: how many of them came; None where reading did not begin at the start.
        end_s: when the last of all streams ended.
    """
    if (
        packets is not None and stream.frames and container.format.name.startswith("mov")
    ):  # its index counts every one
        return packets < stream.frames
    if container.duration is None or not container.format.name.startswith(NAMES_ITS_END):
        return False
    start_s = Fraction(container.start_time or 0, 1_000_000)
    return Fraction(container.duration, 1_000_000) - (end_s - start_s) > MISSING_S


def frame_length(frame: Any, unit: Fraction) -> int:
    """Return how long a frame is shown, in units; 0 where nobody says. Older versions of PyAV never do."""
    length = getattr(frame, "duration", None) or 0
    return round(length * Fraction(frame.time_base) / unit) if length and frame.time_base else 0


def _first_frame(container: Any, stream: Any, name: str) -> Any:
    from av.error import FFmpegError

    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except FFmpegError:
                continue
            for frame in frames:
                if not frame.is_corrupt:
                    return frame
    except FFmpegError as err:
        raise ImageFileError(
            f"{name}: expected a clip that can be decoded, got: {err.strerror or err}; convert it or copy it again"
        ) from err
    raise ImageFileError(
        f"{name}: expected a clip that can be decoded, got no whole frame of {stream.codec_context.name}; convert it "
        "or copy it again from its source"
    )


def _seconds_of(container: Any, stream: Any) -> float:
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return float(container.duration or 0) / 1_000_000
