"""Packed pictures, and the sound and subtitles of their source, become one file; nothing is packed again."""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...errors import ConfigError, ImageFileError
from .encoder import Look, Packet, set_up
from .formats import FILES
from .source import ClipSource, is_cover, opened

COPIED = ("audio", "subtitle")
"""Kinds of streams that are copied."""

UNKNOWN = "unknown"

LEFT_OUT = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration")
"""What a file says about itself as a file, not about the clip."""


def check_sound(path: Path, source: ClipSource) -> None:
    """Refuse, before the work, a file that cannot hold the source's sound.

    Raises:
        ImageFileError: with the endings that can.
    """
    if lost := sounds_lost(path.suffix.lower(), source):
        fitting = [ending for ending in FILES if not sounds_lost(ending, source)]
        raise ImageFileError(
            f"{path}: expected a file that holds the clip's sound, {' and '.join(lost)}, got {path.suffix.lower()}; "
            f"write {' or '.join(fitting) or 'another clip, with other sound'}"
        )


def sounds_lost(ending: str, source: ClipSource) -> list[str]:
    """Return the kinds of a source's sound that a file with this ending, a key of `FILES`, cannot hold."""
    import av

    with opened(source.file, source.name) as container:
        sounds = {kind_of(stream) for stream in container.streams.audio} - {UNKNOWN}
    with av.open(io.BytesIO(), "w", format=FILES[ending].format) as container:
        return sorted(sounds - container.supported_codecs)


def join(
    target: Path, named: Path, packets: Iterable[Packet], look: Look, source: ClipSource
) -> tuple[str, ...]:
    """Write a clip.

    Args:
        target: the file that is written.
        named: the name that it will have; its ending decides.
        packets: of the pictures, in the order of decoding; parts follow each other.
        look: what they were packed with.
        source: of everything else.

    Returns:
        What could not be copied, one sentence each.

    Raises:
        ConfigError: there is no packet.
        ImageFileError: the disk is full, or the source cannot be read.
    """
    import av
    from av.error import FFmpegError

    kind = FILES[named.suffix.lower()]
    notes: list[str] = []
    try:
        with (
            opened(source.file, source.name) as given,
            av.open(f"file:{target}", "w", format=kind.format, options=dict(kind.options)) as container,
        ):
            container.metadata.update({k: v for k, v in given.metadata.items() if k.lower() not in LEFT_OUT})
            pictures: Any = container.add_stream(look.codec.encoder, rate=look.rate, options=look.options)
            set_up(pictures.codec_context, look)
            if look.codec.tag is not None and kind.format in {"mp4", "mov"}:
                pictures.codec_context.codec_tag = look.codec.tag
            _copy_words(given.streams[source.stream], pictures)
            others, lost = _others(container, given)
            notes += lost
            _copy_chapters(given, container, source)
            count = 0
            shown = _pictures(packets, pictures, look)
            for _, packet in heapq.merge(shown, _copied(given, others, source), key=lambda one: one[0]):
                count += packet.stream is pictures
                container.mux(packet)
            if not count:
                raise ConfigError(
                    f"{source.name}: no frame is left; choose another file or a longer part of it"
                )
    except (FFmpegError, OSError) as err:
        raise ImageFileError(
            f"{named}: expected a place that can be written, got: {err.strerror or err}; check the disk"
        ) from err
    return tuple(notes)


def _pictures(packets: Iterable[Packet], stream: Any, look: Look) -> Iterator[tuple[Fraction, Any]]:
    """Yield (when, packet). Times of decoding only grow, also over the borders of parts."""
    import av

    last = None
    for one in packets:
        packet = av.Packet(one.data)
        last = one.decoded if last is None else max(one.decoded, last + 1)
        packet.stream, packet.time_base = stream, look.unit
        packet.pts, packet.dts, packet.is_keyframe = one.shown, last, one.is_key
        if one.length:
            packet.duration = one.length
        yield last * look.unit, packet


def _others(container: Any, given: Any) -> tuple[dict[int, Any], list[str]]:
    """Return the new streams of what is copied, by the number of the old one, and what is not."""
    others, lost = {}, []
    for stream in given.streams:
        if stream.type == "video" or is_cover(stream):
            continue
        name = kind_of(stream)
        if stream.type not in COPIED or name not in container.supported_codecs:
            lost.append(f"a stream of {stream.type} ({name}) is left out: the file does not hold it")
            continue
        others[stream.index] = container.add_stream_from_template(stream)
        _copy_words(stream, others[stream.index])
    return others, lost


def kind_of(stream: Any) -> str:
    """Return what packs a stream, as FFmpeg calls it."""
    return UNKNOWN if stream.codec_context is None else stream.codec_context.codec.canonical_name


def _copied(given: Any, others: dict[int, Any], source: ClipSource) -> Iterator[tuple[Fraction, Any]]:
    """Yield (when, packet) of the streams that are copied, as far as the file can be read."""
    from av.error import FFmpegError

    if not others:
        return
    begin_s, end_s = source.window
    streams = [stream for stream in given.streams if stream.index in others]
    if begin_s and source.is_part:
        given.seek(int(begin_s * 1_000_000))
    packets = given.demux(streams)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            return  # a source that is cut off: the pictures end there too, which is told
        if packet is None:
            return
        if packet.dts is None or packet.pts is None:
            continue
        at_s = packet.pts * packet.time_base
        if source.is_part and (at_s < begin_s or (end_s is not None and at_s >= end_s)):
            continue
        moved = round(begin_s / packet.time_base)
        packet.pts, packet.dts = packet.pts - moved, packet.dts - moved
        when = packet.dts * packet.time_base
        packet.stream = others[packet.stream.index]
        yield when, packet


def _copy_words(given: Any, stream: Any) -> None:
    """Copy what a stream says about itself: its language, its title, what it is for."""
    for name, value in given.metadata.items():
        if name.lower() not in {*LEFT_OUT, "handler_name", "vendor_id", "rotate"}:
            stream.metadata[name] = value
    stream.disposition = given.disposition


def _copy_chapters(given: Any, container: Any, source: ClipSource) -> None:
    if not source.is_part and hasattr(given, "chapters") and given.chapters():  # not in older versions
        container.set_chapters(given.chapters())
