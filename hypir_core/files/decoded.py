"""Decoded pixels, what they are called, and what is wrong with them."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

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
MODE_OF_CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
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
    has_alpha: bool = False
    """The last channel is alpha."""
    is_complete: bool = True
    """False: the file's end is missing, and what it held is filled."""
    notes: tuple[str, ...] = ()
    """What was lost or guessed on the way, one sentence each."""


def named(pixels: np.ndarray, *, has_alpha: bool | None = None) -> Decoded:
    """Give samples the name of their mode; by default the last of 2 or 4 channels is alpha."""
    pixels = hwc(pixels)
    channels = pixels.shape[2]
    if has_alpha is None:
        has_alpha = channels in (2, 4)
    mode = MODE_OF_CHANNELS.get(channels, f"{channels} bands")
    if pixels.dtype == np.uint8:
        return Decoded(pixels, mode, has_alpha=has_alpha)
    if pixels.dtype == np.float32:
        return Decoded(pixels, "F" if mode == "L" else f"{mode};32F", has_alpha=has_alpha)
    return Decoded(pixels, "I;16" if mode == "L" else f"{mode};16", has_alpha=has_alpha)


def hwc(pixels: np.ndarray) -> np.ndarray:
    """Return [H W] or [H W C] as [H W C]."""
    return pixels.reshape(pixels.shape[0], pixels.shape[1], -1)


def finite(pixels: np.ndarray) -> np.ndarray:
    """Return float32, values as they are.

    Raises:
        UnsupportedPictureError: one of them is NaN or infinite.
    """
    values = pixels.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise UnsupportedPictureError("expected finite values, got NaN or infinity; repair the values")
    return values


def clamped_01(pixels: np.ndarray) -> np.ndarray:
    """Return float32 in [0,1], rounding errors clamped.

    Raises:
        UnsupportedPictureError: a value is NaN, infinite or outside.
    """
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


def too_many_bands(channels: int, colors: int) -> str:
    """Return the sentence for a picture of more channels than can be kept."""
    return (
        f"expected {colors} colour channel{'s' * (colors > 1)} and at most an alpha channel, got {channels} channels; "
        'bands are not restored as a picture: take weights made for them, or read them for training (bands="any")'
    )
