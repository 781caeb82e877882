"""The names of the colour fixes; free of torch, so that a request can name one at no cost."""

from __future__ import annotations

from enum import Enum


class ColorFix(str, Enum):
    """What the restored picture takes over from the resized input, its reference."""

    wavelet = "wavelet"
    """Tone and colour coarser than about 40 px (`color.wavelet`); detail stays. What HYPIR was made with."""
    adain = "adain"
    """Mean and spread of every channel over the whole picture (`color.adain`); local changes stay."""
    lab = "lab"
    """Colour coarser than about 40 px, without lightness (`color.lab`): restored tones stay, a tint goes."""
    histogram = "histogram"
    """Distribution of values of every channel over the whole picture (`color.matching`): as opensr-srgan does it."""
    none = "none"
    """Nothing: the picture stays as the engine made it."""
