"""The one list of what clips are written as: codecs, their qualities, the files that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import ConfigError, ImageFileError
from ...registry import Registry
from ..formats import CLIP_ENDINGS, HEAD_BYTES, SIDECAR_OF_MACOS, is_clip_head, recognise
from ..opening import open_file


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipCodec:
    """How pictures are packed."""

    encoder: str
    """Its name in FFmpeg."""
    pixels: Mapping[int, str]
    """Bits per sample → FFmpeg's name of the pixels, ascending."""
    quality: int | None = None
    """The CRF that is taken without a wish: nothing of it is seen. None: nothing is lost."""
    worst_quality: int = 51
    options: Mapping[str, str] = field(default_factory=dict)
    """What else the encoder is told."""
    tag: str | None = None
    """In MP4 and MOV, where players want another than FFmpeg's."""

    @property
    def even_sides(self) -> bool:
        """Whether colour has half the resolution, so that sides must be even."""
        return all("420" in pixels for pixels in self.pixels.values())

    def bits_for(self, bits: int) -> int:
        """Return the least depth that holds `bits`, or else the largest."""
        return next((deep for deep in self.pixels if deep >= bits), max(self.pixels))


CODECS: Registry[ClipCodec] = Registry("codec of clips")
CODECS.add(
    "h264",
    ClipCodec(
        encoder="libx264",
        pixels={8: "yuv420p", 10: "yuv420p10le"},
        quality=16,
        # Its fast paths for one processor do not always make the same bytes twice from small pictures.
        options={"x264-params": "cpu-independent=1"},
    ),
)
CODECS.add(
    "h265",
    ClipCodec(
        encoder="libx265",
        pixels={8: "yuv420p", 10: "yuv420p10le"},
        quality=18,
        options={"x265-params": "log-level=error"},
        tag="hvc1",
    ),
)
CODECS.add(
    "vp9",
    ClipCodec(
        encoder="libvpx-vp9",
        pixels={8: "yuv420p"},  # PyAV's own has no more bits
        quality=20,
        worst_quality=63,
        options={"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
    ),
)
CODECS.add("ffv1", ClipCodec(encoder="ffv1", pixels={8: "yuv444p", 10: "yuv444p10le", 12: "yuv444p12le"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFile:
    """A kind of file that holds packed pictures and sound."""

    format: str
    """Its name in FFmpeg."""
    codecs: tuple[str, ...]
    """Names in `CODECS`; the first is taken for 8 bits."""
    deep: str
    """The one that is taken for more bits."""
    options: Mapping[str, str] = field(default_factory=dict)


_START = {"movflags": "+faststart"}  # a player in a browser can begin before the whole file is there
FILES: dict[str, ClipFile] = {
    ".mp4": ClipFile(format="mp4", codecs=("h264", "h265", "vp9"), deep="h265", options=_START),
    ".m4v": ClipFile(format="mp4", codecs=("h264", "h265"), deep="h265", options=_START),
    ".mov": ClipFile(format="mov", codecs=("h264", "h265"), deep="h265", options=_START),
    ".mkv": ClipFile(format="matroska", codecs=("h264", "h265", "vp9", "ffv1"), deep="h265"),
    ".webm": ClipFile(format="webm", codecs=("vp9",), deep="vp9"),
}
"""Ending, lower case → what is written under it."""

OTHER_ENDING = ".mkv"
"""Of results of clips whose own ending cannot be written: it holds any sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How one clip is packed: checked, nothing left open."""

    codec: str
    quality: int | None
    """CRF; None where nothing is lost."""
    bits: int


def packing_for(path: Path, *, bits: int, codec: str | None = None, quality: int | None = None) -> Packing:
    """Return how a clip is packed into the file that `path` names.

    Args:
        path: the result; its ending decides.
        bits: per sample, of the source.
        codec: a name in `CODECS`; by default what suits the ending and the bits.
        quality: CRF: 0 best, larger is smaller; by default the codec's.

    Raises:
        ImageFileError: no clip is written under that ending, or the codec is not held by it.
        UnknownNameError: no such codec.
        ConfigError: the quality is out of range.
    """
    held = FILES.get(path.suffix.lower())
    if held is None:
        raise ImageFileError(
            f"{path}: expected a name that ends in one of {', '.join(FILES)} for a clip, got "
            f"{path.suffix or 'no extension'!r}; rename the output"
        )
    name = codec or (held.codecs[0] if bits <= 8 else held.deep)
    chosen = CODECS.get(name)
    if name not in held.codecs:
        fitting = [ending for ending, entry in FILES.items() if name in entry.codecs]
        raise ImageFileError(
            f"{path}: expected a codec that {path.suffix.lower()} holds ({', '.join(held.codecs)}), got {name}; "
            f"choose one of them, or write {' or '.join(fitting)}"
        )
    if quality is not None and chosen.quality is None:
        raise ConfigError(f"--quality belongs to codecs that lose something, got {name}; leave it out")
    if quality is not None and not 0 <= quality <= chosen.worst_quality:
        raise ConfigError(f"--quality must be from 0 to {chosen.worst_quality} for {name}, got {quality}")
    return Packing(
        codec=name,
        quality=chosen.quality if quality is None else quality,
        bits=chosen.bits_for(bits),
    )


def clip_ending(source: Path) -> str:
    """Return the ending, with the dot, of the clip made from `source`."""
    ending = source.suffix.lower()
    return ending if ending in FILES else OTHER_ENDING


def is_clip_path(path: Path) -> bool:
    """Say whether a file is called as a clip."""
    return path.suffix.lower() in CLIP_ENDINGS and not path.name.startswith(SIDECAR_OF_MACOS)


def is_clip(path: Path) -> bool:
    """Say whether a file is a clip: by its content; by its name where the content is no picture's either.

    Raises:
        ImageFileError: it cannot be read.
    """
    if not path.is_file():
        return False
    with open_file(path) as file:
        head = file.read(HEAD_BYTES)
    return is_clip_head(head) or (is_clip_path(path) and recognise(head) is None)
