"""Decode TIFF pages that Pillow has no mode for, through tifffile."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from .codecs import codec_package
from .decoded import Decoded, UnsupportedPictureError, clamped_01, finite, hwc, named
from .row_blocks import row_blocks
from .tiff_pages import TiffPage

_TIFFFILE_COLORS = ("MINISWHITE", "MINISBLACK", "RGB")


def tiff_through_tifffile(file: BinaryIO, stored: TiffPage, *, any_bands: bool) -> Decoded:
    """Decode one page of an open TIFF; `any_bands` as for `decode`.

    Raises:
        UnsupportedPictureError: odd colours or samples, values outside [0,1].
        MissingDependencyError: tifffile or imagecodecs is not installed.
    """
    tifffile = codec_package(
        "tifffile", purpose="reading a TIFF of more than 8 bits, of many bands or of 178 million pixels"
    )
    with tifffile.TiffFile(file) as opened:
        opened.filehandle.seek(stored.offset)
        page = tifffile.TiffPage(opened, index=stored.index or 0)
        pixels = page.asarray()
        axes, photometric, bits = page.axes, page.photometric.name, page.bitspersample
    if axes not in ("YX", "YXS", "SYX") or photometric not in _TIFFFILE_COLORS:
        raise UnsupportedPictureError(
            f"expected grey or RGB pixels, got the axes {axes} and {photometric} colours; convert it to RGB"
        )
    pixels = hwc(np.moveaxis(pixels, 0, -1) if axes == "SYX" else pixels)
    if pixels.dtype.kind == "f":
        pixels = finite(pixels) if any_bands else clamped_01(pixels)
    elif (pixels.dtype, bits) not in ((np.uint8, 8), (np.uint16, 16)):
        if not any_bands:
            raise UnsupportedPictureError(
                f"expected 8-bit, 16-bit or float samples, got {bits}-bit {pixels.dtype}; convert it to 16 bit"
            )
        pixels = pixels.astype(np.float32)
    return tiff_samples(pixels, stored)


def tiff_samples(pixels_hwc: np.ndarray, stored: TiffPage) -> Decoded:
    """Say what samples as they lie in a TIFF mean: white is the largest value, alpha is not multiplied in."""
    white = np.array(
        1 if pixels_hwc.dtype == np.float32 else np.iinfo(pixels_hwc.dtype).max, pixels_hwc.dtype
    )
    if stored.photometric == 0 and stored.samples - stored.has_alpha == 1:  # MINISWHITE
        pixels_hwc = np.concatenate([white - pixels_hwc[..., :1], pixels_hwc[..., 1:]], axis=-1)
    if stored.has_alpha and stored.extra[0] == 1:
        pixels_hwc = _unpremultiplied(pixels_hwc, white)
    return named(pixels_hwc, has_alpha=stored.has_alpha)


def _unpremultiplied(pixels_hwc: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Divide the colour by the alpha that it was multiplied with (TIFF 6.0 section 18); 0 if alpha is."""
    result = np.array(pixels_hwc)
    top = float(white)
    for rows in row_blocks(result.shape):
        color, alpha = result[rows, :, :-1], result[rows, :, -1:].astype(np.float64)
        full = np.divide(color * top, alpha, out=np.zeros(color.shape), where=alpha > 0)
        rounded = full if result.dtype == np.float32 else np.floor(full + 0.5)
        color[...] = np.minimum(rounded, top).astype(result.dtype)
    return result
