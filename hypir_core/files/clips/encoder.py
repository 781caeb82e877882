"""Frames become packets: an encoder that is set up in one place, for the work and for the file that holds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor

from ...errors import ConfigError
from ...tiling.geometry import by
from .colors import Colors, to_frame
from .formats import CODECS, ClipCodec, Packing
from .source import ClipSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All that an encoder is told about the pictures: equal looks make packets that go into one file."""

    size_hw: tuple[int, int]
    """In pixels; even where the codec needs it."""
    packing: Packing
    colors: Colors
    rate: Fraction
    """Frames per second, on average."""
    unit: Fraction
    """Seconds of one unit of time."""
    aspect: Fraction | None = None
    """Width of a pixel ÷ its height."""

    @property
    def codec(self) -> ClipCodec:
        """What packs them."""
        return CODECS.get(self.packing.codec)

    @property
    def pixels(self) -> str:
        """FFmpeg's name of the pixels."""
        return self.codec.pixels[self.packing.bits]

    @property
    def options(self) -> dict[str, str]:
        """What the encoder is told by name."""
        quality = self.packing.quality
        return dict(self.codec.options) | ({} if quality is None else {"crf": str(quality)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packed picture, or a part of what is needed for several."""

    data: bytes
    shown: int
    """When its picture is shown, in units."""
    decoded: int
    """When it is decoded, in units."""
    length: int
    """How long its picture is shown, in units."""
    is_key: bool
    """Whether decoding can begin here."""


def look_of(source: ClipSource, size_hw: tuple[int, int], packing: Packing) -> Look:
    """Return how frames of `size_hw` made from a clip look; of odd sides, a codec may lose the last line."""
    height, width = size_hw
    if CODECS.get(packing.codec).even_sides:
        height, width = height // 2 * 2, width // 2 * 2
    return Look(
        size_hw=(height, width),
        packing=packing,
        colors=source.colors,
        rate=source.rate,
        unit=source.unit,
        aspect=source.aspect,
    )


class Encoder:
    """Packs the frames of one part of a clip; its first packet is one to begin with."""

    def __init__(self, look: Look):
        """Open the encoder.

        Raises:
            ConfigError: this PyAV does not have it, or it does not take the size.
        """
        import av
        from av.codec.context import Flags
        from av.error import FFmpegError

        self._look = look
        self._lengths: dict[int, int] = {}
        try:
            self._context: Any = av.CodecContext.create(look.codec.encoder, "w")
            self._context.options = look.options
            self._context.framerate = look.rate
            set_up(self._context, look)
            self._context.flags |= Flags.global_header
            self._context.open()
        except (FFmpegError, ValueError) as err:
            raise ConfigError(
                f"the codec {look.packing.codec} cannot be had for frames of {by(look.size_hw[::-1])} px: "
                f"{getattr(err, 'strerror', None) or err}; choose another --codec"
            ) from err

    def take(self, image_01: Tensor, at: int, length: int) -> Iterator[Packet]:
        """Yield what is finished after a frame [1 3 H W] that is shown from `at` on; earlier ones came before it."""
        height, width = self._look.size_hw
        frame = to_frame(
            image_01[..., :height, :width],
            self._look.colors,
            pixels=self._look.pixels,
            deep=self._look.packing.bits > 8,
        )
        frame.pts, frame.time_base = at, self._look.unit
        self._lengths[at] = length
        yield from map(self._packet, self._context.encode(frame))

    def rest(self) -> Iterator[Packet]:
        """Yield what is left; no frame can be taken afterwards."""
        yield from map(self._packet, self._context.encode(None))

    def _packet(self, packet: Any) -> Packet:
        shown = packet.pts
        return Packet(
            data=bytes(packet),
            shown=shown,
            decoded=shown if packet.dts is None else packet.dts,
            length=self._lengths.pop(shown, 0),
            is_key=bool(packet.is_keyframe),
        )


def set_up(context: Any, look: Look) -> None:
    """Tell an encoder's context all but its options."""
    context.height, context.width = look.size_hw
    context.pix_fmt = look.pixels
    context.time_base = look.unit
    context.color_primaries = look.colors.primaries
    context.color_trc = look.colors.transfer
    context.colorspace = look.colors.matrix
    context.color_range = look.colors.range
    if look.aspect is not None:
        context.sample_aspect_ratio = look.aspect
