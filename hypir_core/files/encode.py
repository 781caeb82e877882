"""Turn float planes into the integers of a file, and those into the file's bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import RangeError
from .metadata.carried import Extras
from .metadata.jpeg_head import PILLOWS_HEAD_BYTES, jpeg_head
from .metadata.png_chunks import png_metadata, png_words
from .row_blocks import row_blocks
from .streams.opening import open_stream
from .streams.png import PNG_LEVEL
from .streams.stream import Layout

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PNG_HEAD_BYTES = 33
"""Signature and IHDR chunk; metadata goes behind them."""


def to_samples(color_01: Tensor, alpha_01: Tensor | None, *, bits: int) -> np.ndarray:
    """Convert planes to a file's samples: clamp to [0,1], times the largest value, round half up.

    Works on blocks of rows, so nothing of the picture's size is needed besides the result.

    Args:
        color_01: [C H W], any float dtype, any device.
        alpha_01: [1 H W] or None; becomes the last channel.
        bits: 8 (uint8), 16 (uint16) or 32 (float32, no rounding).

    Returns:
        [H W C] or, with alpha, [H W C+1].

    Raises:
        RangeError: a value is NaN or infinite.
    """
    channels, height_px, width_px = color_01.shape
    dtype = {8: np.uint8, 16: np.uint16, 32: np.float32}[bits]
    samples = np.empty((height_px, width_px, channels + (alpha_01 is not None)), dtype)
    for rows in row_blocks(samples.shape):
        _fill(samples[rows, :, :channels], color_01[:, rows])
        if alpha_01 is not None:
            _fill(samples[rows, :, channels:], alpha_01[:, rows])
    return samples


def write_samples(
    file: BinaryIO, samples_hwc: np.ndarray, format_name: str, *, has_alpha: bool, extras: Extras
) -> None:
    """Write samples from `to_samples` as a complete file of the given format.

    Raises:
        ImageFileError: the EXIF block does not fit into a JPEG.
        OSError: the disk is full …
    """
    if format_name in ("tiff", "npy") or samples_hwc.dtype == np.uint16:
        height_px, width_px, channels = samples_hwc.shape
        layout = Layout(
            width_px=width_px,
            height_px=height_px,
            channels=channels,
            has_alpha=has_alpha,
            bits=samples_hwc.dtype.itemsize * 8,
        )
        stream = open_stream(file, format_name, layout, extras)
        for rows in row_blocks(samples_hwc.shape):
            stream.rows(samples_hwc[rows])
        stream.end(extras)
    else:
        _write_through_pillow(file, samples_hwc, format_name, extras)


def _fill(out_hwc: np.ndarray, planes_chw: Tensor) -> None:
    block = planes_chw.detach().to("cpu", torch.float32).permute(1, 2, 0).contiguous().numpy()
    if not np.isfinite(block).all():
        raise RangeError(
            "expected finite values to write, got NaN or infinity; check what made the picture (try float32)"
        )
    clamped = np.clip(block, 0, 1)
    if out_hwc.dtype != np.float32:
        clamped *= np.iinfo(out_hwc.dtype).max
        clamped += 0.5
    out_hwc[...] = clamped.astype(out_hwc.dtype)


def _write_through_pillow(file: BinaryIO, samples_hwc: np.ndarray, format_name: str, extras: Extras) -> None:
    image = Image.fromarray(samples_hwc[..., 0] if samples_hwc.shape[2] == 1 else samples_hwc)
    keep = drop = 0
    insert = b""
    options: dict[str, object] = {"quality": extras.quality}
    if format_name == "png":
        keep, insert = _PNG_HEAD_BYTES, png_metadata(extras) + png_words(extras)
        options = {"compress_level": PNG_LEVEL}
    elif format_name == "jpg":
        drop, insert = PILLOWS_HEAD_BYTES, jpeg_head(extras)
        options["subsampling"] = "4:4:4"
    else:
        exif = None if extras.exif is None else b"Exif\0\0" + extras.exif
        carried = {"icc_profile": extras.icc, "exif": exif, "xmp": extras.xmp}
        options |= {"exact": True, **{name: data for name, data in carried.items() if data is not None}}
    name = "JPEG" if format_name == "jpg" else format_name.upper()
    spliced = _Spliced(file, keep=keep, drop=drop, insert=insert)
    image.save(spliced, name, **options)  # pyright: ignore[reportArgumentType]  # a file to write to, no more


class _Spliced(io.BufferedIOBase):
    """A file into whose head something is put while Pillow writes it.

    It has no descriptor: writing to that, Pillow would overlook a disk that fills up.
    """

    def __init__(self, file: BinaryIO, *, keep: int, drop: int, insert: bytes):
        """Pass `keep` bytes on, write `insert`, swallow `drop` bytes, pass the rest on."""
        self._file, self._keep, self._drop, self._insert = file, keep, drop, insert

    def write(self, data: ReadableBuffer, /) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        if self._keep:
            rest = self._passed(rest)
        if not self._keep and self._insert:
            self._file.write(self._insert)
            self._insert = b""
        if self._drop and not self._keep:
            dropped = min(self._drop, len(rest))
            rest, self._drop = rest[dropped:], self._drop - dropped
        self._file.write(rest)
        return size

    def _passed(self, data: memoryview) -> memoryview:
        count = min(self._keep, len(data))
        self._file.write(data[:count])
        self._keep -= count
        return data[count:]
