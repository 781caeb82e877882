"""Turn the pixels of an open picture file into an array at the file's own depth.

Pillow has no 16-bit colour, so 16-bit PNG goes through imagecodecs and TIFF deeper than 8 bits through tifffile. So do
WebP and TIFF files larger than Pillow's limit, which those two classes apply themselves.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from PIL import Image

from .codecs import codec_package
from .decode_pillow import decode_jpeg, opened_with_pillow, through_pillow
from .decode_tiff import tiff_through_tifffile
from .decoded import (
    MODE_OF_CHANNELS,
    Decoded,
    UnsupportedPictureError,
    clamped_01,
    finite,
    hwc,
    named,
    too_many_bands,
)
from .header import Header, read_npy_header
from .metadata.containers import blocks
from .netpbm import netpbm_16_bit, netpbm_header
from .tiff_pages import CMYK


def decode(
    file: BinaryIO, header: Header, *, icc: bytes | None, page: int = 0, any_bands: bool = False
) -> Decoded:
    """Decode one picture of an open file.

    Args:
        file: open for reading; its size was checked before, through `header`.
        header: what `read_header` returned.
        icc: the file's profile; only CMYK is converted through it.
        page: which of its pages or frames.
        any_bands: any number of channels and any finite values are welcome; samples of other types than 8 and
            16 bit come as float32, values as they are.

    Raises:
        MissingDependencyError: 16-bit PNG or deep TIFF without imagecodecs, tifffile.
        UnsupportedPictureError: an odd colour mode or sample type, values outside [0,1] …
        (OSError, SyntaxError, RuntimeError, …): any of `DECODE_ERRORS`, for damaged files.
    """
    file.seek(0)
    if header.format == "npy":
        return _npy(file, any_bands=any_bands)
    if header.format == "png" and header.bits == 16:
        _refuse_page(page, "16-bit PNG")
        codecs = codec_package("imagecodecs", purpose="reading a 16-bit PNG")
        return named(codecs.png_decode(file.read()))
    if header.format == "ppm" and header.bits == 16:
        found = netpbm_header(file)
        if found.kind in (b"P5", b"P6"):
            return named(netpbm_16_bit(file, found))
    if header.format == "jp2" and header.bits > 8:
        return _deep_jp2(file, header.bits)
    is_large = _is_over_pillows_limit(header)
    if header.tiff is not None:
        stored = header.tiff.pages[page]
        has_no_mode = not stored.is_picture or (stored.is_planar and stored.samples == 2)
        needs_tifffile = stored.bits > 8 or is_large or stored.index is None or has_no_mode
        if needs_tifffile and stored.photometric != CMYK:
            return tiff_through_tifffile(file, stored, any_bands=any_bands)
    if header.format == "webp" and is_large:
        _refuse_page(page, "WebP of more than 178 million pixels")
        codecs = codec_package("imagecodecs", purpose="reading a WebP of more than 178 million pixels")
        return named(codecs.webp_decode(file.read()))
    if header.format == "jpg":
        return decode_jpeg(file, icc)
    return through_pillow(file, header, icc, page)


def page_count(file: BinaryIO, header: Header) -> int:
    """Return how many pages or frames an open file holds.

    Raises:
        UnsupportedPictureError: Pillow cannot read this format here.
        (OSError, SyntaxError, …): any of `DECODE_ERRORS`, for damaged files.
    """
    if header.tiff is not None:
        return len(header.tiff.pages)
    if header.format == "webp":
        return max(1, sum(block.name == b"ANMF" for block in blocks(file, "webp")))
    if header.format == "png" and not any(block.name == b"acTL" for block in blocks(file, "png")):
        return 1
    if header.format not in ("png", "gif", "avif"):
        return 1
    file.seek(0)
    return int(getattr(opened_with_pillow(file, header.format), "n_frames", 1))


def _refuse_page(page: int, kind: str) -> None:
    if page:
        raise UnsupportedPictureError(
            f"expected the first page of a {kind}, got page {page}; convert it to 8 bit"
        )


def _deep_jp2(file: BinaryIO, bits: int) -> Decoded:
    codecs = codec_package("imagecodecs", purpose="reading a JPEG 2000 of more than 8 bits")
    pixels = hwc(codecs.jpeg2k_decode(file.read()))
    if pixels.dtype != np.uint16 or pixels.shape[2] not in MODE_OF_CHANNELS:
        raise UnsupportedPictureError(
            f"expected 1 to 4 unsigned channels of up to 16 bits, got {pixels.shape[2]} of {pixels.dtype}; "
            "convert it to a TIFF"
        )
    if bits < 16:
        top = 2**bits - 1
        pixels = ((pixels.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)
    return named(pixels)


def _npy(file: BinaryIO, *, any_bands: bool) -> Decoded:
    array = read_npy_header(file)  # leaves the file at the data
    if array.dtype.kind != "f" and not (any_bands and array.dtype.kind in "ui"):
        raise UnsupportedPictureError(
            f"expected float32 values in [0,1], got {array.dtype}; divide by the largest value"
        )
    count = int(np.prod(array.shape, dtype=np.int64))
    data = np.frombuffer(file.read(count * array.dtype.itemsize), array.dtype)
    if data.size < count:
        raise ValueError(f"it is truncated: {data.size} of {count} values are there")
    pixels = hwc(data.reshape(array.shape, order="F" if array.fortran_order else "C"))
    channels = pixels.shape[2]
    if any_bands:
        if pixels.dtype not in (np.uint8, np.uint16):
            pixels = finite(pixels)
        return named(pixels, has_alpha=False)
    if channels not in MODE_OF_CHANNELS:
        raise UnsupportedPictureError(
            f"{too_many_bands(channels, 3)} (the array's shape is {list(array.shape)})"
        )
    return named(clamped_01(pixels))


def _is_over_pillows_limit(header: Header) -> bool:
    """Say whether Pillow's WebP and TIFF classes, unlike the others, would refuse by its global limit."""
    limit = Image.MAX_IMAGE_PIXELS
    return limit is not None and header.width_px * header.height_px > 2 * limit
