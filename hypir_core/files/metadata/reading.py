"""What a picture file carries besides pixels: ICC profile, EXIF block, XMP, IPTC, words, density."""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import BinaryIO

from ..boxes import jp2_blocks
from . import exif as exif_block
from .carried import Carried, Density
from .containers import blocks, content
from .geo import GEO_TAGS, GeoTag
from .jpeg_head import (
    decoded_text,
    jpeg_comments,
    jpeg_density,
    jpeg_exif,
    jpeg_has_credentials,
    jpeg_icc,
    jpeg_iptc,
    jpeg_xmp,
)
from .photoshop import iptc_in
from .png_chunks import (
    COLOR_CHUNKS,
    COMMENT_KEY,
    RAW_PROFILE,
    XMP_KEY,
    png_density,
    png_icc,
    png_text,
    raw_profile_bytes,
)
from .tiff_tags import (
    RATIONAL,
    Directory,
    Entry,
    Layout,
    ReadAt,
    in_file,
    integers_of,
    read_directory,
    read_layout,
    value_of,
)

_log = logging.getLogger(__name__)

_ICC, _XMP, _IPTC = 34675, 700, 33723
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_GIF_XMP, _GIF_XMP_END = b"\x21\xff\x0bXMP DataXMP", b"\x01\xff\xfe\xfd"
_XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True, slots=True)
class Metadata:
    """ICC profile and EXIF block of a file, the orientation its pixels are stored in, and the rest."""

    icc: bytes | None = None
    exif: bytes | None = None
    """TIFF structure without the JPEG prefix, its orientation already set to 1."""
    orientation: int = 1
    """EXIF orientation 1 to 8 of the stored pixels."""
    carried: Carried = field(default_factory=Carried)


def read_metadata(
    file: BinaryIO,
    container: str,
    *,
    directory: int | None = None,
    pillow_info: Mapping[str, object] | None = None,
) -> Metadata:
    """Read profile, EXIF, orientation and the rest of an open file of the format `container`.

    A block that is damaged is left out with a warning in the log.

    Args:
        file: the open file.
        container: name of its format.
        directory: of a TIFF, the offset of the page's directory; by default the first one.
        pillow_info: what Pillow found in a GIF or AVIF.

    Raises:
        ValueError: a TIFF's main directory cannot be read.
    """
    if container == "tiff":
        return _of_tiff(file, directory)
    if container == "png":
        return _of_png(file)
    raw_exif = None
    icc, carried = None, Carried()
    if container == "webp":
        icc, raw_exif = _first(file, "webp", b"ICCP"), _first(file, "webp", b"EXIF")
        carried = Carried(xmp=_first(file, "webp", b"XMP "))
    elif container == "jpg":
        icc, raw_exif = jpeg_icc(file), jpeg_exif(file)
        carried = Carried(
            xmp=jpeg_xmp(file),
            iptc=jpeg_iptc(file),
            comments=jpeg_comments(file),
            density=jpeg_density(file),
            has_credentials=jpeg_has_credentials(file),
        )
    elif container == "bmp":
        icc, carried = _bmp_icc(file), Carried(density=_bmp_density(file))
    elif container == "gif":
        carried = Carried(xmp=_gif_xmp(file))
    elif container == "jp2":
        found = jp2_blocks(file)
        icc, raw_exif, carried = found.icc, found.exif, Carried(xmp=found.xmp)
    if pillow_info is not None:
        icc, raw_exif, carried = _of_pillow(pillow_info, icc, raw_exif, carried)
    orientation, exif = exif_block.checked(raw_exif)
    return Metadata(icc, exif, orientation, carried)


def read_text_of(file: BinaryIO, container: str) -> dict[str, str]:
    """Return the text in an open file: every PNG text chunk, or what EXIF UserComment holds."""
    if container == "png":
        return dict(png_text(file))
    if container in ("jpg", "webp", "tiff"):
        return exif_block.text_in(read_metadata(file, container).exif)
    return {}


def _of_png(file: BinaryIO) -> Metadata:
    chunks: dict[bytes, bytes] = {}
    for block in blocks(file, "png"):
        if block.name in (*COLOR_CHUNKS, b"pHYs", b"eXIf", b"caBX") and block.name not in chunks:
            chunks[block.name] = content(file, block)
    icc, raw_exif = png_icc(file), chunks.get(b"eXIf")
    text: dict[str, str] = {}
    comments: list[str] = []
    xmp = iptc = None
    for key, words in png_text(file):
        if key == XMP_KEY:
            xmp = words.encode("utf-8")
        elif key == COMMENT_KEY:
            comments.append(words)
        elif key.startswith(RAW_PROFILE) and (data := raw_profile_bytes(words)) is not None:
            kind = key.removeprefix(RAW_PROFILE).lower()
            if data.startswith(_XMP_MARK):
                xmp = xmp or data.removeprefix(_XMP_MARK)
            elif kind in ("exif", "app1"):
                raw_exif = raw_exif or data
            elif kind == "xmp":
                xmp = xmp or data
            elif kind in ("iptc", "8bim"):
                iptc = iptc or iptc_in(data) or (data if data[:1] == b"\x1c" else None)
            elif kind in ("icc", "icm"):
                icc = icc or data
            else:
                text[key] = words
        else:
            text[key] = words
    orientation, exif = exif_block.checked(raw_exif)
    carried = Carried(
        xmp=xmp,
        iptc=iptc,
        comments=tuple(comments),
        text=text,
        density=png_density(chunks.get(b"pHYs", b"")),
        color_chunks={name: chunks[name] for name in COLOR_CHUNKS if name in chunks},
        has_credentials=b"caBX" in chunks,
    )
    return Metadata(icc, exif, orientation, carried)


def _of_pillow(
    info: Mapping[str, object], icc: bytes | None, raw_exif: bytes | None, carried: Carried
) -> tuple[bytes | None, bytes | None, Carried]:
    def data(name: str) -> bytes | None:
        found = info.get(name)
        return found if isinstance(found, bytes) and found else None

    comment = data("comment")
    words = decoded_text(comment) if comment else ""
    carried = replace(
        carried,
        xmp=carried.xmp or data("xmp"),
        comments=(words,) if words else carried.comments,
        density=carried.density or _pillow_density(info.get("dpi")),
    )
    return icc or data("icc_profile"), raw_exif or data("exif"), carried


def _pillow_density(dpi: object) -> Density | None:
    if not isinstance(dpi, tuple) or len(dpi) != 2 or not all(side > 0 for side in dpi):
        return None
    x, y = (Fraction(side).limit_denominator(10**4) for side in dpi)
    return Density(x=x, y=y)


def _bmp_density(file: BinaryIO) -> Density | None:
    file.seek(14)
    data = file.read(32)
    if len(data) < 32 or int.from_bytes(data[:4], "little") < 40:
        return None
    x, y = struct.unpack_from("<ii", data, 24)
    return Density.of_metre(x, y) if x > 0 and y > 0 else None


def _bmp_icc(file: BinaryIO) -> bytes | None:
    """Return the embedded profile of a BMP of version 5 (BITMAPV5HEADER: bV5CSType, ProfileData, ProfileSize)."""
    file.seek(14)
    data = file.read(124)
    if len(data) < 124 or int.from_bytes(data[:4], "little") < 124 or data[56:60] != b"DEBM":
        return None
    at, size = struct.unpack_from("<II", data, 112)
    end = file.seek(0, 2)
    if not size or 14 + at + size > end:
        _log.warning("ICC profile dropped: it lies behind the end of the file")
        return None
    file.seek(14 + at)
    return file.read(size)


def _gif_xmp(file: BinaryIO) -> bytes | None:
    """Return the XMP packet of a GIF: bare bytes behind the block's name, ended by a run of 258 (XMP part 3, 1.1.2)."""
    file.seek(0)
    data = file.read()
    at = data.find(_GIF_XMP)
    end = data.find(_GIF_XMP_END, at)
    return data[at + len(_GIF_XMP) : end] if at >= 0 and end >= 0 else None


def _of_tiff(file: BinaryIO, directory: int | None) -> Metadata:
    read_at = in_file(file)
    layout, start = read_layout(read_at)
    main, _ = read_directory(read_at, layout, start)
    page = main if directory is None else read_directory(read_at, layout, directory)[0]
    orientation, exif = exif_block.from_tiff(read_at, layout, main, page)

    def value(tag: int) -> bytes | None:
        entry = page.get(tag, main.get(tag) if tag != _ICC else None)
        return _readable(read_at, layout, entry) if entry else None

    carried = Carried(
        xmp=value(_XMP),
        iptc=value(_IPTC),
        density=_tiff_density(read_at, layout, page),
        geo=tuple(_geo(read_at, layout, page)),
    )
    return Metadata(value(_ICC), exif, orientation, carried)


def _geo(read_at: ReadAt, layout: Layout, page: Directory) -> list[GeoTag]:
    tags = []
    for tag in sorted(GEO_TAGS & page.keys()):
        data = _readable(read_at, layout, page[tag])
        if data is not None:
            entry = page[tag]
            tags.append(GeoTag(tag=tag, kind=entry.kind, count=entry.count, value=data, order=layout.order))
    return tags


def _readable(read_at: ReadAt, layout: Layout, entry: Entry) -> bytes | None:
    try:
        return value_of(read_at, layout, entry)
    except ValueError as err:
        _log.warning("TIFF tag %d dropped, it cannot be read: %s", entry.tag, err)
        return None


def _tiff_density(read_at: ReadAt, layout: Layout, page: Directory) -> Density | None:
    if not {_X_RESOLUTION, _Y_RESOLUTION} <= page.keys():
        return None
    sides = []
    for tag in (_X_RESOLUTION, _Y_RESOLUTION):
        data = _readable(read_at, layout, page[tag]) or b""
        if page[tag].kind != RATIONAL or len(data) != 8:
            return None
        above, below = struct.unpack(layout.order + "II", data)
        if not above or not below:
            return None
        sides.append(Fraction(above, below))
    unit = integers_of(read_at, layout, page[_RESOLUTION_UNIT])[:1] if _RESOLUTION_UNIT in page else (2,)
    if unit == (1,) and sides[0] == sides[1]:
        return None
    return Density(x=sides[0], y=sides[1], unit={1: "aspect", 3: "cm"}.get(unit[0], "inch"))


def _first(file: BinaryIO, container: str, name: bytes) -> bytes | None:
    found = next((block for block in blocks(file, container) if block.name == name), None)
    return content(file, found) if found else None
