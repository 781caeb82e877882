"""XMP packets: what of them would be untrue of the new picture is brought up to date.

Source: XMP specification parts 1 and 2 (properties as attributes or as elements); `tiff:` and `exif:` namespaces.
"""

from __future__ import annotations

import re


def for_output(xmp: bytes, *, width_px: int, height_px: int) -> bytes:
    """Return the packet with orientation 1 and the new size, wherever it tells these; the rest byte for byte."""
    for name, value in (
        (b"tiff:Orientation", 1),
        (b"tiff:ImageWidth", width_px),
        (b"tiff:ImageLength", height_px),
        (b"exif:PixelXDimension", width_px),
        (b"exif:PixelYDimension", height_px),
    ):
        digits = str(value).encode()
        xmp = re.sub(rb"(\b" + name + rb"\s*=\s*([\"']))\s*\d+\s*(\2)", rb"\g<1>" + digits + rb"\g<3>", xmp)
        xmp = re.sub(rb"(<" + name + rb"\s*>)\s*\d+\s*(</)", rb"\g<1>" + digits + rb"\g<2>", xmp)
    return xmp


def squeezed(xmp: bytes) -> bytes:
    """Take the padding out that editors leave in front of the packet's end."""
    return re.sub(rb"\s+(<\?xpacket end=)", rb"\n\1", xmp)
