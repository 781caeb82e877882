"""Small clips for tests, written with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="clips need PyAV: pip install 'onestep-restore[video]'")

UNIT = Fraction(1, 90000)


def make_clip(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    colors: tuple[int, int, int, int] = (1, 1, 1, 1),
    sound: str | None = None,
    rotation: int = 0,
    words: dict[str, str] | None = None,
    **options: str,
) -> list[int]:
    """Write pictures [h w 3] uint8 and a tone; return the times.

    `colors`: primaries, transfer, matrix, range, as numbers of FFmpeg. `rotation`: degrees, counter-clockwise, by which
    players turn it.
    """
    times = [3000 * i for i in range(len(pictures))] if times is None else list(times)
    with av.open(str(path), "w") as container:
        container.metadata.update(words or {})
        video: Any = container.add_stream(codec, rate=30, options={"crf": "10", **options})
        context = video.codec_context
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt, context.time_base = pixels, UNIT
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = colors
        if rotation:
            video.set_display_rotation(rotation)
        heard: Any = None if sound is None else container.add_stream(sound, rate=48000)
        for picture, at in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = frame.reformat(format=pixels, dst_colorspace=colors[2], dst_color_range=colors[3])
            frame.pts, frame.time_base = at, UNIT
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if heard is not None:
            for begin in range(0, round(times[-1] * UNIT * 48000), 1024):
                tone = np.sin(np.arange(begin, begin + 1024) / 20).astype(np.float32)[None] / 4
                part = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                part.sample_rate, part.pts, part.time_base = 48000, begin, Fraction(1, 48000)
                container.mux(heard.encode(part))
            container.mux(heard.encode(None))
    return times


def frames_of(path: Path) -> list[np.ndarray]:
    """Return all frames, [h w 3] uint8, as a player shows their colours."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def times_of(path: Path) -> list[Fraction]:
    """Return when each frame is shown, in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def sound_of(path: Path) -> list[tuple[Fraction, bytes]]:
    """Return the packets of the first sound: when, and what."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(p.pts * p.time_base, bytes(p)) for p in packets if p.size]
