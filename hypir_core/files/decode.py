"""Turn the pixels of an open picture file into an array at the file's own depth.

8-bit PNG, JPEG, WebP, BMP and TIFF go through Pillow's format classes directly: ``Image.open`` would apply
the process-wide size limit, which this project neither wants nor may change. Pillow has no 16-bit colour, so
16-bit PNG goes through imagecodecs and TIFF deeper than 8 bits through tifffile. So do WebP and TIFF files
larger than Pillow's limit, which those two classes apply themselves.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from .codecs import codec_package
from .header import CMYK_TIFF, Header, read_npy_header
from .row_blocks import row_blocks

DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What the decoders raise on damaged files (Pillow: SyntaxError …; imagecodecs: RuntimeError)."""

_PILLOW_CLASSES: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "jpg": JpegImagePlugin.JpegImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
}
_PLAIN_MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBX": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "YCbCr": "RGB",
}
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}
_MODE_OF_CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_OUT_OF_RANGE_01 = 1e-5
"""Float files may leave [0,1] by this much (rounding of whoever wrote them) and are clamped."""


class UnsupportedPictureError(ValueError):
    """The file is sound but not of a kind that is read here; the message says what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Pixels as stored, before they are turned upright."""

    pixels_hwc: np.ndarray
    """[H W C], C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA; uint8, uint16 or float32."""
    source_mode: str
    """Pillow's name of the mode in the file; deeper ones as ``I;16``, ``RGB;16``, ``RGBA;32F`` …"""
    is_upright: bool = False
    """The decoder has already applied the orientation."""
    is_converted: bool = False
    """The colours were converted to sRGB: the file's ICC profile no longer applies."""


def decode(file: BinaryIO, header: Header, *, icc: bytes | None) -> Decoded:
    """Decode the first picture of an open file.

    Args:
        file: open for reading; its size was checked before, through `header`.
        header: what `read_header` returned.
        icc: the file's profile; only CMYK is converted through it.

    Raises:
        MissingDependencyError: 16-bit PNG or deep TIFF without imagecodecs, tifffile.
        UnsupportedPictureError: an odd colour mode or sample type, values outside [0,1] …
        (OSError, SyntaxError, RuntimeError, …): any of `DECODE_ERRORS`, for damaged files.
    """
    file.seek(0)
    if header.format == "npy":
        return _npy(file)
    if header.format == "png" and header.bits == 16:
        return _deep_png(file)
    is_large = _is_over_pillows_limit(header)
    if header.format == "tiff" and (header.bits > 8 or is_large) and header.photometric != CMYK_TIFF:
        return _deep_or_large_tiff(file)
    if header.format == "webp" and is_large:
        return _large_webp(file)
    return _through_pillow(file, header.format, icc)


def _through_pillow(file: BinaryIO, name: str, icc: bytes | None) -> Decoded:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata, which is read elsewhere
        image = _PILLOW_CLASSES[name](file)
        image.load()
    mode = image.mode
    is_upright = isinstance(image, TiffImagePlugin.TiffImageFile) and 0x0112 not in image.tag_v2
    if mode == "CMYK":
        return Decoded(_array(_cmyk_to_srgb(image, icc)), mode, is_upright, is_converted=True)
    if mode not in _PLAIN_MODES:
        raise UnsupportedPictureError(
            f"expected grey, RGB or CMYK, got the colour mode {mode}; convert it to RGB"
        )
    plain = _PLAIN_MODES[mode]
    if image.has_transparency_data:
        plain = _WITH_ALPHA.get(plain, plain)
    return Decoded(_array(image if mode == plain else image.convert(plain)), mode, is_upright)


def _array(image: Image.Image) -> np.ndarray:
    """Copy an 8-bit picture into [H W C], some rows at a time (Pillow's own way makes a second copy)."""
    channels = len(image.getbands())
    pixels = np.empty((image.height, image.width, channels), np.uint8)
    for rows in row_blocks(pixels.shape):
        block = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
        pixels[rows] = block.reshape(-1, image.width, channels)
    return pixels


def _cmyk_to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    if icc is None:
        return image.convert("RGB")
    from PIL import ImageCms

    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError) as err:
        raise UnsupportedPictureError(
            f"expected a usable CMYK profile, got: {err}; convert the picture to RGB"
        ) from err
    return cast("Image.Image", converted)  # only the in-place form returns None


def _deep_png(file: BinaryIO) -> Decoded:
    codecs = codec_package("imagecodecs", purpose="reading a 16-bit PNG")
    return _named(codecs.png_decode(file.read()))


def _deep_or_large_tiff(file: BinaryIO) -> Decoded:
    tifffile = codec_package("tifffile", purpose="reading a TIFF of more than 8 bits or 178 million pixels")
    with tifffile.TiffFile(file) as opened:
        page = opened.pages.first
        pixels = page.asarray()
        axes, extra, photometric = page.axes, tuple(page.extrasamples), page.photometric.name
        bits = page.bitspersample
    if axes not in ("YX", "YXS", "SYX") or photometric not in ("MINISWHITE", "MINISBLACK", "RGB"):
        raise UnsupportedPictureError(
            f"expected grey or RGB pixels, got the axes {axes} and {photometric} colours; convert it to RGB"
        )
    if pixels.dtype.kind == "f":
        pixels = _clamped_01(pixels)
    elif (pixels.dtype, bits) not in ((np.uint8, 8), (np.uint16, 16)):
        raise UnsupportedPictureError(
            f"expected 8-bit, 16-bit or float samples, got {bits}-bit {pixels.dtype}; convert it to 16 bit"
        )
    pixels = _hwc(np.moveaxis(pixels, 0, -1) if axes == "SYX" else pixels)
    white = np.array(1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max, pixels.dtype)
    colors = 3 if photometric == "RGB" else 1
    if photometric == "MINISWHITE":
        pixels = np.concatenate([white - pixels[..., :1], pixels[..., 1:]], axis=-1)
    alpha_kind = int(extra[0]) if extra else 0
    if alpha_kind not in (1, 2):
        return _named(pixels[..., :colors])
    pixels = pixels[..., : colors + 1]
    return _named(_unpremultiplied(pixels, white) if alpha_kind == 1 else pixels)


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


def _large_webp(file: BinaryIO) -> Decoded:
    codecs = codec_package("imagecodecs", purpose="reading a WebP of more than 178 million pixels")
    return _named(codecs.webp_decode(file.read()))


def _is_over_pillows_limit(header: Header) -> bool:
    """Say whether Pillow's WebP and TIFF classes, unlike the others, would refuse by its global limit."""
    limit = Image.MAX_IMAGE_PIXELS
    return limit is not None and header.width_px * header.height_px > 2 * limit


def _npy(file: BinaryIO) -> Decoded:
    array = read_npy_header(file)  # leaves the file at the data
    if array.dtype.kind != "f":
        raise UnsupportedPictureError(
            f"expected float32 values in [0,1], got {array.dtype}; divide by the largest value"
        )
    count = int(np.prod(array.shape, dtype=np.int64))
    data = np.frombuffer(file.read(count * array.dtype.itemsize), array.dtype)
    if data.size < count:
        raise ValueError(f"it is truncated: {data.size} of {count} values are there")
    pixels = data.reshape(array.shape, order="F" if array.fortran_order else "C")
    pixels = _hwc(pixels)
    if pixels.shape[2] not in _MODE_OF_CHANNELS:
        raise UnsupportedPictureError(
            f"expected an array [H W] or [H W 1|2|3|4], got the shape {list(array.shape)}; reshape it"
        )
    return _named(_clamped_01(pixels))


def _named(pixels: np.ndarray) -> Decoded:
    pixels = _hwc(pixels)
    mode = _MODE_OF_CHANNELS[pixels.shape[2]]
    if pixels.dtype == np.uint8:
        return Decoded(pixels, mode)
    if pixels.dtype == np.float32:
        return Decoded(pixels, "F" if mode == "L" else f"{mode};32F")
    return Decoded(pixels, "I;16" if mode == "L" else f"{mode};16")


def _hwc(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(pixels.shape[0], pixels.shape[1], -1)


def _clamped_01(pixels: np.ndarray) -> np.ndarray:
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnsupportedPictureError(
            "expected finite values in [0,1], got NaN or infinity; repair the values"
        )
    if low < -_OUT_OF_RANGE_01 or high > 1 + _OUT_OF_RANGE_01:
        raise UnsupportedPictureError(
            f"expected values in [0,1], got {low:g} to {high:g}; scale them to [0,1]"
        )
    return np.clip(pixels.astype(np.float32, copy=False), 0, 1)
