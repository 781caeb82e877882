"""Turn float planes into the integers of a file, and those into the file's bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from ..errors import ImageFileError, RangeError
from .codecs import codec_package
from .metadata import exif as exif_block
from .metadata.reading import png_chunk, png_icc_data, png_text_data
from .row_blocks import row_blocks

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PNG_LEVEL = 4
"""Half the time of zlib's usual 6 for files 0.4 % larger, measured on photographs."""
_PNG_HEAD_BYTES = 33
"""Signature and IHDR chunk; metadata goes behind them."""
_MOST_JPEG_EXIF_BYTES = 65533 - 6
"""A JPEG segment's 16-bit length, less the length itself and the mark ``Exif\\0\\0``."""
_CLASSIC_TIFF_BYTES = 4 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What is written beside the pixels."""

    icc: bytes | None = None
    exif: bytes | None = None
    text: Mapping[str, str] = field(default_factory=dict)
    quality: int = 95
    """1 to 100, for JPEG and WebP."""


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


def write_samples(file: BinaryIO, samples_hwc: np.ndarray, format_name: str, *, extras: Extras) -> None:
    """Write samples from `to_samples` as a complete file of the given format.

    Raises:
        ImageFileError: the EXIF block does not fit into a JPEG.
        MissingDependencyError: 16-bit PNG, or TIFF, without imagecodecs, tifffile.
        OSError: the disk is full …
    """
    if format_name == "npy":
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(samples_hwc))
        file.write(samples_hwc.data)
    elif format_name == "tiff":
        _write_tiff(file, samples_hwc, extras)
    elif format_name == "png" and samples_hwc.dtype == np.uint16:
        _write_deep_png(file, samples_hwc, extras)
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
    options: dict[str, object] = {}
    if extras.icc is not None:
        options["icc_profile"] = extras.icc
    if extras.exif is not None:
        options["exif"] = extras.exif if format_name == "png" else b"Exif\0\0" + extras.exif
    if format_name == "png":
        text = PngImagePlugin.PngInfo()
        for data in png_text_data(extras.text):
            text.add(b"iTXt", data)
        options |= {"pnginfo": text, "compress_level": _PNG_LEVEL}
    elif format_name == "jpg":
        if len(extras.exif or b"") > _MOST_JPEG_EXIF_BYTES:
            raise ImageFileError(
                f"expected at most {_MOST_JPEG_EXIF_BYTES} bytes of EXIF and text for a JPEG, "
                f"got {len(extras.exif or b'')}; write png, webp or tiff"
            )
        options |= {"quality": extras.quality, "subsampling": "4:4:4"}
    else:
        options |= {"quality": extras.quality, "exact": True}
    image = Image.fromarray(samples_hwc[..., 0] if samples_hwc.shape[2] == 1 else samples_hwc)
    name = "JPEG" if format_name == "jpg" else format_name.upper()
    image.save(_WithoutDescriptor(file), name, **options)  # pyright: ignore[reportArgumentType]


class _WithoutDescriptor(io.BufferedIOBase):
    """A file whose descriptor Pillow cannot take: writing to that, it would overlook a disk that fills up."""

    def __init__(self, file: BinaryIO):
        self._file = file

    def write(self, data: ReadableBuffer, /) -> int:
        return self._file.write(data)


def _write_deep_png(file: BinaryIO, samples_hwc: np.ndarray, extras: Extras) -> None:
    codecs = codec_package("imagecodecs", purpose="writing a 16-bit PNG")
    encoded = memoryview(codecs.png_encode(samples_hwc, level=_PNG_LEVEL))
    file.write(encoded[:_PNG_HEAD_BYTES])
    if extras.icc is not None:
        file.write(png_chunk(b"iCCP", png_icc_data(extras.icc)))
    if extras.exif is not None:
        file.write(png_chunk(b"eXIf", extras.exif))
    for data in png_text_data(extras.text):
        file.write(png_chunk(b"iTXt", data))
    file.write(encoded[_PNG_HEAD_BYTES:])


def _write_tiff(file: BinaryIO, samples_hwc: np.ndarray, extras: Extras) -> None:
    tifffile = codec_package("tifffile", purpose="writing a TIFF")
    codec_package("imagecodecs", purpose="writing a TIFF")
    channels = samples_hwc.shape[2]
    big_endian = extras.exif is not None and extras.exif.startswith(b"MM")
    with tifffile.TiffWriter(
        file, byteorder=">" if big_endian else "<", bigtiff=samples_hwc.nbytes > _CLASSIC_TIFF_BYTES
    ) as writer:
        writer.write(
            samples_hwc[..., 0] if channels == 1 else samples_hwc,
            photometric="rgb" if channels >= 3 else "minisblack",
            planarconfig="contig" if channels > 1 else None,
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
            compression="zlib",
            predictor=True,
            iccprofile=extras.icc,
            metadata=None,
            software=False,
        )
    if extras.exif is not None:
        exif_block.into_tiff(file, extras.exif)
