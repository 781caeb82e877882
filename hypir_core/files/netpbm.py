"""PBM, PGM, PPM and PFM: the header, and the 16-bit samples that Pillow has no mode for.

Source: the Netpbm manual pages pbm, pgm, ppm, pfm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

_HEAD_BYTES = 4096
_TOKENS = re.compile(rb"(?:#[^\n\r]*[\n\r]|\s)*([^\s#]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetpbmHeader:
    """What the first lines say."""

    kind: bytes
    """``P1`` to ``P6``, ``Pf``, ``PF``."""
    width_px: int
    height_px: int
    white: int
    """The value that means 1; 1 for the kinds that tell none."""
    data_offset: int


def netpbm_header(file: BinaryIO) -> NetpbmHeader:
    """Read the header of an open file.

    Raises:
        ValueError: it is cut off or holds no numbers.
    """
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    kind, at, numbers = head[:2], 2, []
    wanted = 2 if kind in (b"P1", b"P4", b"Pf", b"PF") else 3
    for _ in range(wanted):
        found = _TOKENS.match(head, at)
        if found is None:
            raise ValueError("its header is cut off")
        numbers.append(int(found[1]))
        at = found.end()
    white = numbers[2] if wanted == 3 else 1
    if not 1 <= white <= 65535:
        raise ValueError(f"its largest value is {white}, expected 1 to 65535")
    return NetpbmHeader(kind=kind, width_px=numbers[0], height_px=numbers[1], white=white, data_offset=at + 1)


def netpbm_16_bit(file: BinaryIO, header: NetpbmHeader) -> np.ndarray:
    """Read the samples [H W 1|3] of a P5 or P6 file of 16 bits, scaled so that white is 65535.

    Raises:
        ValueError: samples are missing.
    """
    channels = 3 if header.kind == b"P6" else 1
    shape = (header.height_px, header.width_px, channels)
    file.seek(header.data_offset)
    data = np.frombuffer(file.read(2 * int(np.prod(shape))), ">u2")
    if data.size < np.prod(shape):
        raise ValueError(f"it is truncated: {data.size} of {int(np.prod(shape))} values are there")
    if header.white == 65535:
        return data.reshape(shape).astype(np.uint16)
    scaled = np.minimum(data, header.white).astype(np.uint32) * 65535 + header.white // 2
    return (scaled // header.white).astype(np.uint16).reshape(shape)
