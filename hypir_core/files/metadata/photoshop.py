"""Photoshop image resources, in which JPEG and PNG files keep their IPTC data.

Source: Adobe Photoshop File Formats Specification, "Image Resources Section".
"""

from __future__ import annotations

import struct

PHOTOSHOP_MARK = b"Photoshop 3.0\0"
_RESOURCE, _IPTC = b"8BIM", 0x0404


def iptc_resource(iptc: bytes) -> bytes:
    """Wrap IPTC data sets as an image resource without a name."""
    return _RESOURCE + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)


def iptc_in(resources: bytes) -> bytes | None:
    """Return the IPTC data sets in a row of image resources; None where there are none."""
    at = len(PHOTOSHOP_MARK) if resources.startswith(PHOTOSHOP_MARK) else 0
    while resources[at : at + 4] == _RESOURCE and at + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        name_bytes = resources[at + 6] + 1
        at += 6 + name_bytes + name_bytes % 2
        if at + 4 > len(resources):
            return None
        (size,) = struct.unpack_from(">I", resources, at)
        data = resources[at + 4 : at + 4 + size]
        if number == _IPTC:
            return data if len(data) == size else None
        at += 4 + size + size % 2
    return None
