"""What travels beside the pixels, independent of the file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from .geo import GeoTag

_CM_PER_INCH = Fraction(254, 100)
_TIFF_UNITS = {"aspect": 1, "inch": 2, "cm": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """How many pixels lie on a length of paper."""

    x: Fraction
    y: Fraction
    unit: str = "inch"
    """``inch`` or ``cm``; ``aspect``: only the ratio of x and y means something."""

    def per(self, unit: str) -> tuple[Fraction, Fraction]:
        """Return (x, y) per `unit`, ``inch`` or ``cm``; only the ratio of an aspect means something."""
        if self.unit in (unit, "aspect"):
            return self.x, self.y
        factor = _CM_PER_INCH if unit == "inch" else 1 / _CM_PER_INCH
        return self.x * factor, self.y * factor

    def rationals(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return (numerator, denominator) of x and of y, each below 2**32."""
        x, y = (side.limit_denominator(10**5) for side in (self.x, self.y))
        return (x.numerator, x.denominator), (y.numerator, y.denominator)

    @property
    def tiff_unit(self) -> int:
        """TIFF's number of the unit (ResolutionUnit)."""
        return _TIFF_UNITS[self.unit]

    def ratio(self) -> tuple[int, int]:
        """Return x and y of an aspect as whole numbers, each below 2**31."""
        ratio = (self.x / self.y).limit_denominator(10**4)
        return ratio.numerator, ratio.denominator

    @classmethod
    def of_metre(cls, x: int, y: int) -> Density:
        """Return the density of whole pixels per metre."""
        return cls(x=Fraction(x, 100), y=Fraction(y, 100), unit="cm")

    @classmethod
    def of_aspect(cls, x: int, y: int) -> Density:
        """Return a density of which only the ratio is known."""
        return cls(x=Fraction(x), y=Fraction(y), unit="aspect")

    def turned(self) -> Density:
        """Return the density of the picture turned by a quarter."""
        return Density(x=self.y, y=self.x, unit=self.unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a file carries besides pixels, ICC profile and EXIF block."""

    xmp: bytes | None = None
    """XMP packet (XML)."""
    iptc: bytes | None = None
    """IPTC-IIM data sets."""
    comments: tuple[str, ...] = ()
    """JPEG and GIF comments."""
    text: Mapping[str, str] = field(default_factory=dict)
    """PNG text chunks."""
    density: Density | None = None
    color_chunks: Mapping[bytes, bytes] = field(default_factory=dict)
    """Content of the PNG chunks cICP, cHRM, gAMA, sRGB: what the colours mean without an ICC profile."""
    geo: tuple[GeoTag, ...] = ()
    """GeoTIFF tags, of the picture as it lies in `Picture.color_hwc`."""
    has_credentials: bool = False
    """The file carries signed content credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What is written beside the pixels; each format writes what it can hold (`metadata.kept`)."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comments: tuple[str, ...] = ()
    text: Mapping[str, str] = field(default_factory=dict)
    density: Density | None = None
    color_chunks: Mapping[bytes, bytes] = field(default_factory=dict)
    geo: tuple[GeoTag, ...] = ()
    quality: int = 95
    """1 to 100, for JPEG and WebP."""
