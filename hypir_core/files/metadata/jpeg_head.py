"""The segments in front of a JPEG's pixels: build them, read them.

Sources: JFIF 1.02; ITU-T T.81 annex B; Exif 2.32 section 4.7.2; XMP part 3, section 1.1.3; ICC.1:2022 annex B.4.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

from ...errors import ImageFileError
from .carried import Density, Extras
from .containers import blocks, content
from .photoshop import PHOTOSHOP_MARK, iptc_in, iptc_resource

_log = logging.getLogger(__name__)

PILLOWS_HEAD_BYTES = 20
"""Start of image and JFIF segment as libjpeg writes them; `jpeg_head` stands in their place."""
MOST_SEGMENT_BYTES = 65533
MOST_XMP_BYTES = MOST_SEGMENT_BYTES - 29
MOST_IPTC_BYTES = MOST_SEGMENT_BYTES - 28
_XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"
_EXIF_MARK = b"Exif\0\0"
_ICC_MARK = b"ICC_PROFILE\0"
_ICC_PART_BYTES = MOST_SEGMENT_BYTES - 14
_JFIF_UNITS = {"aspect": 0, "inch": 1, "cm": 2}
_MOST_JFIF_DENSITY = 65535


def jpeg_head(extras: Extras) -> bytes:
    """Return start of image, JFIF segment and every segment that `extras` asks for.

    Raises:
        ImageFileError: the EXIF block does not fit into a segment.
    """
    parts = [b"\xff\xd8", _segment(0xE0, b"JFIF\0\x01\x02" + _jfif_density(extras.density) + b"\0\0")]
    if extras.exif is not None:
        most = MOST_SEGMENT_BYTES - len(_EXIF_MARK)
        if len(extras.exif) > most:
            raise ImageFileError(
                f"expected at most {most} bytes of EXIF and text for a JPEG, "
                f"got {len(extras.exif)}; write png, webp or tiff"
            )
        parts.append(_segment(0xE1, _EXIF_MARK + extras.exif))
    if extras.xmp is not None:
        parts.append(_segment(0xE1, _XMP_MARK + extras.xmp))
    if extras.iptc is not None:
        parts.append(_segment(0xED, PHOTOSHOP_MARK + iptc_resource(extras.iptc)))
    if extras.icc is not None:
        pieces = range(0, len(extras.icc), _ICC_PART_BYTES)
        for number, at in enumerate(pieces, 1):
            numbers = bytes([number, len(pieces)])
            parts.append(_segment(0xE2, _ICC_MARK + numbers + extras.icc[at : at + _ICC_PART_BYTES]))
    parts += [_segment(0xFE, words.encode("utf-8")[:MOST_SEGMENT_BYTES]) for words in extras.comments]
    return b"".join(parts)


def jpeg_exif(file: BinaryIO) -> bytes | None:
    """Return the EXIF segment of an open JPEG, its mark included."""
    return next(_marked(file, b"\xe1", _EXIF_MARK), None)


def jpeg_xmp(file: BinaryIO) -> bytes | None:
    """Return the XMP packet of an open JPEG."""
    return next((data[len(_XMP_MARK) :] for data in _marked(file, b"\xe1", _XMP_MARK)), None)


def jpeg_iptc(file: BinaryIO) -> bytes | None:
    """Return the IPTC data sets of an open JPEG; what is too long for one segment goes on in the next."""
    parts = [data[len(PHOTOSHOP_MARK) :] for data in _marked(file, b"\xed", PHOTOSHOP_MARK)]
    return iptc_in(b"".join(parts))


def jpeg_comments(file: BinaryIO) -> tuple[str, ...]:
    """Return the comments of an open JPEG, none of them blank."""
    found = (content(file, block) for block in blocks(file, "jpg") if block.name == b"\xfe")
    return tuple(words for data in found if (words := decoded_text(data)))


def jpeg_density(file: BinaryIO) -> Density | None:
    """Return the density that the JFIF segment of an open JPEG tells, unless it is 1:1 without a unit."""
    data = next(_marked(file, b"\xe0", b"JFIF\0"), b"")
    if len(data) < 12:
        return None
    unit, x, y = struct.unpack_from(">BHH", data, 7)
    if not x or not y or unit > 2 or (unit == 0 and x == y):
        return None
    return Density(x=Fraction(x), y=Fraction(y), unit=("aspect", "inch", "cm")[unit])


def jpeg_icc(file: BinaryIO) -> bytes | None:
    """Join the numbered ICC segments (mark, number, count, part of the profile)."""
    parts: dict[int, bytes] = {}
    count = 0
    for data in _marked(file, b"\xe2", _ICC_MARK):
        if len(data) >= 14:
            parts[data[12]], count = data[14:], data[13]
    if not parts:
        return None
    if sorted(parts) != list(range(1, count + 1)):
        _log.warning("ICC profile dropped: parts %s of %d are there", sorted(parts), count)
        return None
    return b"".join(parts[number] for number in sorted(parts))


def jpeg_pictures(file: BinaryIO) -> int:
    """Return how many pictures the file says it holds (CIPA DC-007, multi-picture format); usually 1."""
    data = next(_marked(file, b"\xe2", b"MPF\0"), b"")[4:]
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    if not order or len(data) < 10:
        return 1
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return 1
    (entries,) = struct.unpack_from(order + "H", data, start)
    for at in range(start + 2, min(start + 2 + 12 * entries, len(data) - 11), 12):
        tag, _, _, value = struct.unpack_from(order + "HHII", data, at)
        if tag == 0xB001:
            return max(1, value)
    return 1


def jpeg_has_credentials(file: BinaryIO) -> bool:
    """Say whether the file carries signed content credentials (JUMBF in APP11, as C2PA does)."""
    return any(
        block.name == b"\xeb" and content(file, block, most_bytes=2) == b"JP" for block in blocks(file, "jpg")
    )


def decoded_text(data: bytes) -> str:
    """Read a comment: UTF-8, or else Latin-1; trailing NULs and blanks do not count."""
    try:
        words = data.decode("utf-8")
    except UnicodeDecodeError:
        words = data.decode("latin-1")
    return words.strip("\0 \r\n")


def _marked(file: BinaryIO, name: bytes, mark: bytes) -> Iterator[bytes]:
    for block in blocks(file, "jpg"):
        if block.name == name and content(file, block, most_bytes=len(mark)) == mark:
            yield content(file, block)


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _jfif_density(density: Density | None) -> bytes:
    if density is None:
        return struct.pack(">BHH", 0, 1, 1)
    x, y = density.ratio() if density.unit == "aspect" else (round(density.x), round(density.y))
    unit = density.unit
    if unit == "cm" and (Fraction(x) != density.x or Fraction(y) != density.y):
        x, y = (round(side) for side in density.per("inch"))  # finer steps
        unit = "inch"
    x, y = (min(max(side, 1), _MOST_JFIF_DENSITY) for side in (x, y))
    return struct.pack(">BHH", _JFIF_UNITS[unit], x, y)
