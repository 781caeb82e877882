"""Decode 8-bit pictures with Pillow's format classes.

Not with ``Image.open``: that would apply the process-wide size limit, which this project neither wants nor may change.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from importlib import import_module
from typing import BinaryIO, cast

import numpy as np
from PIL import Image, ImageFile, features

from .decoded import Decoded, UnsupportedPictureError, clamped_01, named
from .header import Header
from .row_blocks import row_blocks

_PILLOW_CLASSES = {
    "png": ("PngImagePlugin", "PngImageFile"),
    "jpg": ("JpegImagePlugin", "JpegImageFile"),
    "webp": ("WebPImagePlugin", "WebPImageFile"),
    "tiff": ("TiffImagePlugin", "TiffImageFile"),
    "bmp": ("BmpImagePlugin", "BmpImageFile"),
    "gif": ("GifImagePlugin", "GifImageFile"),
    "avif": ("AvifImagePlugin", "AvifImageFile"),
    "jp2": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "tga": ("TgaImagePlugin", "TgaImageFile"),
    "ppm": ("PpmImagePlugin", "PpmImageFile"),
}
_FEATURES = {"avif": "avif", "jp2": "jpg_2000", "webp": "webp"}
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
_END_OF_JPEG = b"\xff\xd9"


def pillow_info(file: BinaryIO, header: Header) -> dict[str, object] | None:
    """Return what Pillow says about a GIF, an AVIF or a JPEG 2000 besides its pixels; None for other formats.

    Raises as `page_count` does.
    """
    if header.format not in ("gif", "avif", "jp2"):
        return None
    file.seek(0)
    return {str(key): value for key, value in opened_with_pillow(file, header.format).info.items()}


def through_pillow(file: BinaryIO, header: Header, icc: bytes | None, page: int) -> Decoded:
    """Decode one picture of an open file with Pillow.

    Raises:
        UnsupportedPictureError: an odd colour mode, a CMYK profile that cannot be used, no such decoder.
        (OSError, SyntaxError, …): any of `DECODE_ERRORS`, for damaged files.
    """
    image = opened_with_pillow(file, header.format)
    stored = header.tiff.pages[page] if header.tiff is not None else None
    frame = page if stored is None or stored.index is None else stored.index
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if frame:
            image.seek(frame)
        image.load()
    mode = image.mode
    # Pillow turns a TIFF upright by itself and takes the tag away.
    is_upright = header.format == "tiff" and 0x0112 not in image.tag_v2  # pyright: ignore[reportAttributeAccessIssue]
    notes = ()
    if header.bits > 8 and header.format in ("avif", "jp2", "ppm") and mode not in ("I", "I;16", "F"):
        notes = (f"the {header.bits}-bit {header.format} is read with 8 bits",)
    if mode == "CMYK":
        return Decoded(_array(_cmyk_to_srgb(image, icc)), mode, is_upright, is_converted=True)
    if mode == "F" and header.format == "ppm":
        return named(clamped_01(np.asarray(image)))
    if mode == "I" and header.format == "ppm":
        return named(np.asarray(image).astype(np.uint16))
    if mode not in _PLAIN_MODES:
        raise UnsupportedPictureError(
            f"expected grey, RGB or CMYK, got the colour mode {mode}; convert it to RGB"
        )
    plain = _PLAIN_MODES[mode]
    if image.has_transparency_data:
        plain = _WITH_ALPHA.get(plain, plain)
    pixels = _array(image if mode == plain else image.convert(plain))
    return Decoded(pixels, mode, is_upright, has_alpha=plain in ("LA", "RGBA"), notes=notes)


def decode_jpeg(file: BinaryIO, icc: bytes | None) -> Decoded:
    """Decode a JPEG; one whose end is missing as far as it goes."""
    header = Header("jpg", 0, 0)
    try:
        return through_pillow(file, header, icc, 0)
    except OSError:
        file.seek(0)
        found = through_pillow(io.BytesIO(file.read() + _END_OF_JPEG), header, icc, 0)
    rows = _rows_there(found.pixels_hwc)
    if rows == 0:
        raise ValueError("it is truncated before its first row of pixels")
    share = 100 * rows // found.pixels_hwc.shape[0]
    note = f"the JPEG is truncated: about {share} % of its rows are there, the rest is filled"
    return replace(found, is_complete=False, notes=(*found.notes, note))


def opened_with_pillow(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Open a file with Pillow's class for its format, past `Image.open` and its process-wide size limit."""
    module, kind = _PILLOW_CLASSES[name]
    if name in _FEATURES and not features.check(_FEATURES[name]):
        raise UnsupportedPictureError(
            f"expected a Pillow that reads {name}, got one that does not; run: pip install -U pillow"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata, which is read elsewhere
        return getattr(import_module(f"PIL.{module}"), kind)(file)


def _rows_there(pixels_hwc: np.ndarray) -> int:
    """Return the number of rows above the even ones that stand for what is missing at the bottom."""
    differing = (pixels_hwc != pixels_hwc[-1:]).any(axis=(1, 2))
    return int(np.flatnonzero(differing).max(initial=-1)) + 1


def _array(image: Image.Image) -> np.ndarray:
    """Copy an 8-bit picture into [H W C], some rows at a time (Pillow's own way makes a second copy)."""
    channels = len(image.getbands())
    pixels = np.empty((image.height, image.width, channels), np.uint8)
    for rows in row_blocks(pixels.shape):
        is_whole = (
            rows.stop - rows.start == image.height
        )  # crop asks for Pillow's limit, which somebody may have set
        block = np.asarray(image if is_whole else image.crop((0, rows.start, image.width, rows.stop)))
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
