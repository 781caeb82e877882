"""From what a picture carried to what its successor is written with, field by field, by the table in `kept`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from . import exif as exif_block
from . import geo as geo_tags
from . import xmp as xmp_packet
from .carried import Carried, Extras
from .jpeg_head import MOST_IPTC_BYTES, MOST_XMP_BYTES
from .kept import FIELDS, Fate, fate
from .profiles import profile_of_chunks, rgb_of_grey

_IN_COMMENT = frozenset({"jpg", "webp", "tiff"})
"""Formats without text chunks: text goes into EXIF UserComment."""
_KEEPS_COMMENTS = frozenset({"jpg", "png"})
COMMENT_KEY = "Comment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the picture that was read carried, and how large it was."""

    format: str
    size_hw: tuple[int, int]
    icc: bytes | None
    exif: bytes | None
    carried: Carried


def extras_for(
    format_name: str,
    origin: Origin | None,
    *,
    width_px: int,
    height_px: int,
    is_grey: bool,
    text: Mapping[str, str],
    quality: int,
) -> tuple[Extras, tuple[str, ...]]:
    """Return what is written beside the pixels, and a sentence for everything that is left out.

    Args:
        format_name: the format to write.
        origin: the picture that this one was made from.
        width_px: width of the picture to write.
        height_px: likewise.
        is_grey: it is written with one colour channel.
        text: words of our own; they replace those of the same key.
        quality: for JPEG and WebP.
    """
    notes: list[str] = []
    if origin is None:
        exif = exif_block.for_output(
            None, width_px=width_px, height_px=height_px, text=text if format_name in _IN_COMMENT else {}
        )
        return Extras(exif=exif, text=text, quality=quality), ()
    carried = origin.carried
    notes += _left_out(origin, format_name)
    if format_name == "npy":
        return Extras(quality=quality), tuple(notes)
    icc, chunks, note = _colors(origin, format_name, is_grey=is_grey)
    notes += [note] if note else []
    words = {**exif_block.words_of_others(carried.text), **text}
    comments = carried.comments
    if comments and format_name not in _KEEPS_COMMENTS:
        words = {**words, COMMENT_KEY: "\n".join(comments)}
        comments = ()
    xmp = carried.xmp
    if xmp is not None:
        xmp = xmp_packet.for_output(xmp, width_px=width_px, height_px=height_px)
        if format_name == "jpg" and len(xmp) > MOST_XMP_BYTES:
            xmp = xmp_packet.squeezed(xmp)
            if len(xmp) > MOST_XMP_BYTES:
                notes.append(f"XMP is left out: {len(xmp)} bytes are more than a JPEG segment holds")
                xmp = None
    iptc = carried.iptc if fate("iptc", origin.format, format_name).fate is not Fate.left_out else None
    if iptc is not None and format_name == "jpg" and len(iptc) > MOST_IPTC_BYTES:
        notes.append(f"IPTC is left out: {len(iptc)} bytes are more than a JPEG segment holds")
        iptc = None
    exif = exif_block.for_output(
        origin.exif,
        width_px=width_px,
        height_px=height_px,
        text=words if format_name in _IN_COMMENT else {},
        density=carried.density if format_name == "webp" else None,
    )
    geo = ()
    if carried.geo and format_name == "tiff":
        geo = geo_tags.resized(carried.geo, origin.size_hw, (height_px, width_px))
    return (
        Extras(
            icc=icc,
            exif=exif,
            xmp=xmp,
            iptc=iptc,
            comments=comments,
            text=words,
            density=carried.density,
            color_chunks=chunks,
            geo=geo,
            quality=quality,
        ),
        tuple(notes),
    )


def _left_out(origin: Origin, format_name: str) -> Iterator[str]:
    """Yield a sentence for every field that is there and that the table leaves out."""
    carried = origin.carried
    there = {
        "icc": origin.icc,
        "exif": origin.exif,
        "xmp": carried.xmp,
        "iptc": carried.iptc,
        "comments": carried.comments,
        "text": carried.text,
        "density": carried.density,
        "png color": carried.color_chunks,
        "coordinates": carried.geo,
        "credentials": carried.has_credentials,
    }
    for name, value in there.items():
        rule = fate(name, origin.format, format_name)
        if value and rule.fate is Fate.left_out:
            yield f"{FIELDS[name].meaning} left out: {rule.words}"


def _colors(
    origin: Origin, format_name: str, *, is_grey: bool
) -> tuple[bytes | None, Mapping[bytes, bytes], str]:
    """Return ICC profile and PNG chunks to write, and a note."""
    space = b"GRAY" if is_grey else b"RGB "  # ICC.1:2022, header bytes 16 to 19
    icc = origin.icc
    if icc is not None:
        if icc[16:20] == b"GRAY" and not is_grey:
            icc = rgb_of_grey(icc)
        if icc is None or icc[16:20] != space:
            kind = "a grey" if is_grey else "an RGB"
            return None, {}, f"ICC profile left out: it does not describe {kind} picture"
        return icc, _beside_profile(origin.carried.color_chunks, format_name), ""
    chunks = origin.carried.color_chunks
    if not chunks or format_name == "png":
        return None, chunks, ""
    if is_grey:
        return None, {}, ""
    icc, reason = profile_of_chunks(chunks)
    return icc, {}, f"PNG colour chunks left out: {reason}" if reason else ""


def _beside_profile(chunks: Mapping[bytes, bytes], format_name: str) -> Mapping[bytes, bytes]:
    """Return the chunks that may stand beside an ICC profile: all but sRGB (PNG section 11.3.2.5)."""
    return {n: d for n, d in chunks.items() if n != b"sRGB"} if format_name == "png" else {}
