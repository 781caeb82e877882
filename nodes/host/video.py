"""VIDEO in and out, frame by frame: a film of any length needs the memory of a few frames.

A VIDEO that is a file is read and written as it goes, into ComfyUI's folder of temporary files; sound is copied. One
that holds its frames as a tensor anyway gives a tensor back, without loss.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import InputImpl, Types
from torch import Tensor

from ...hypir_core.errors import ConfigError
from ...hypir_core.files.clips.encoder import look_of
from ...hypir_core.files.clips.formats import OTHER_ENDING, packing_for
from ...hypir_core.files.clips.joining import sounds_lost
from ...hypir_core.files.clips.sink import ClipSink
from ...hypir_core.files.clips.source import ClipSource, open_clip
from .memory import new_image

USUAL_ENDING = ".mp4"


@dataclass(frozen=True, kw_only=True, eq=False)
class Film:
    """A VIDEO that is about to be read."""

    video: Any
    frames: int
    """About how many there are; a file may state it wrongly."""
    source: ClipSource | None
    """Of a VIDEO that is a file."""
    _times: deque[tuple[int, int]] = field(default_factory=deque)
    """When and how long the frames that were read and not yet written are shown."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a result lacks, such as the end of a file that was cut off; complete after `write`."""
        return () if self.source is None else tuple(self.source.notes)

    def read(self) -> Iterator[Tensor]:
        """Yield the frames, [1 3 h w] in [0,1], in their order."""
        if self.source is None:
            for frame in self.video.get_components().images:
                yield frame[None, ..., :3].movedim(-1, 1).float()
            return
        for frame in self.source.frames():
            self._times.append((frame.at, frame.length))
            yield frame.image_01

    def write(self, frames: Iterable[Tensor]) -> Any:
        """Return a VIDEO of restored frames [1 3 H W], each of which was made of one that was read."""
        return self._in_memory(frames) if self.source is None else self._to_file(frames, self.source)

    def _in_memory(self, frames: Iterable[Tensor]) -> Any:
        given, images = self.video.get_components(), torch.empty(0)
        for number, frame in enumerate(frames):
            if number == 0:
                images = new_image((len(given.images), *frame.shape[-2:], 3))
            images[number] = frame[0].movedim(0, -1)
        kept = {"audio": given.audio, "frame_rate": given.frame_rate}
        return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, **kept))

    def _to_file(self, frames: Iterable[Tensor], source: ClipSource) -> Any:
        ending = OTHER_ENDING if sounds_lost(USUAL_ENDING, source) else USUAL_ENDING
        path = Path(folder_paths.get_temp_directory()) / f"onestep_{uuid.uuid4().hex}{ending}"
        sink: ClipSink | None = None
        try:
            for frame in frames:
                if sink is None:
                    size_hw = (frame.shape[-2], frame.shape[-1])
                    look = look_of(source, size_hw, packing_for(path, bits=source.bits))
                    sink = ClipSink(path=path, look=look, source=source)
                sink.write(frame, *self._times.popleft())
            if sink is None:
                raise ConfigError("the VIDEO has no frames; choose another file or a longer part of it")
            sink.commit()
        finally:
            if sink is not None:
                sink.abort()  # cancelling is one of the ways out
        return InputImpl.VideoFromFile(str(path))


def film(video: Any) -> Film:
    """Look at a VIDEO without reading its frames."""
    if not isinstance(video, InputImpl.VideoFromFile):
        return Film(video=video, frames=len(video.get_components().images), source=None)
    given = video.get_stream_source()
    trimmed = getattr(video, "get_active_trim_window", None)  # not in older versions
    begin_s, length_s = (0.0, 0.0) if trimmed is None else trimmed()
    source = open_clip(
        Path(given) if isinstance(given, str) else given, name="the VIDEO", begin_s=begin_s, length_s=length_s
    )
    return Film(video=video, frames=source.expected, source=source)
