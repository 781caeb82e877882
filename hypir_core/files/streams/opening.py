"""Which formats can be written row by row."""

from __future__ import annotations

from typing import BinaryIO

from ..metadata.carried import Extras
from .npy import NpyStream
from .png import PngStream
from .stream import Layout, Stream
from .tiff import TiffStream

STREAMED = frozenset({"tiff", "png", "npy"})


def open_stream(file: BinaryIO, format_name: str, layout: Layout, extras: Extras) -> Stream:
    """Begin a file of one of the formats in `STREAMED`."""
    if format_name == "tiff":
        return TiffStream(file, layout, extras)
    if format_name == "png":
        return PngStream(file, layout, extras)
    return NpyStream(file, layout)
