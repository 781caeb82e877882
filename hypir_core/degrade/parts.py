"""The parts a recipe is made of, with every probability and range, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ..config import strict
from .checks import (
    Range,
    check_number,
    check_probability,
    check_range,
    check_sizes,
    check_some,
    check_weights,
    raise_problems,
)


class ResizeMode(str, Enum):
    """How pixels are interpolated; the names without "antialias" alias when they shrink, area apart."""

    area = "area"
    bilinear = "bilinear"
    bicubic = "bicubic"
    bilinear_antialias = "bilinear_antialias"
    bicubic_antialias = "bicubic_antialias"


class KernelKind(str, Enum):
    """Shape of a blur kernel; the formulas are in `kernels`."""

    iso = "iso"
    aniso = "aniso"
    generalized_iso = "generalized_iso"
    generalized_aniso = "generalized_aniso"
    plateau_iso = "plateau_iso"
    plateau_aniso = "plateau_aniso"
    sinc = "sinc"


@dataclass(frozen=True, kw_only=True)
class KernelMix:
    """How often each kernel kind is taken when the kernel is no sinc; weights, need not sum to 1."""

    __pydantic_config__ = strict

    iso: float = 0.45
    aniso: float = 0.25
    generalized_iso: float = 0.12
    generalized_aniso: float = 0.03
    plateau_iso: float = 0.12
    plateau_aniso: float = 0.03

    def __post_init__(self):
        raise_problems(check_weights(self.as_weights()))

    def as_weights(self) -> dict[str, float]:
        """Return kind name → weight."""
        return {kind.value: getattr(self, kind.value) for kind in KernelKind if kind is not KernelKind.sinc}


@dataclass(frozen=True, kw_only=True)
class Blur:
    """One random kernel over the picture."""

    __pydantic_config__ = strict

    prob: float = 1.0
    """Probability that there is a blur at all."""
    sizes: tuple[int, ...] = tuple(range(7, 22, 2))
    """Kernel widths in pixels, odd, one of them taken with equal probability."""
    sigma: Range = (0.2, 3.0)
    """Standard deviation per axis, in pixels of the picture at that point."""
    mix: KernelMix = field(default_factory=KernelMix)
    beta_generalized: Range = (0.5, 4.0)
    """Exponent β of the generalized Gaussian: half of the draws below 1 (peaked), half above 1 (boxy)."""
    beta_plateau: Range = (1.0, 2.0)
    """Exponent β of the plateau kernel, drawn in the same two halves."""
    sinc_prob: float = 0.1
    """Probability of a 2-D sinc (ringing) instead of the mix."""
    sinc_cutoff: Range = (1 / 3, 1.0)
    """Cut-off of a sinc narrower than 13 pixels, in units of π radians per pixel; lower rings wider."""
    sinc_cutoff_wide: Range = (1 / 5, 1.0)
    """Cut-off of a sinc of 13 pixels or more, in units of π."""

    def __post_init__(self):
        raise_problems(
            check_probability("prob", self.prob),
            check_probability("sinc_prob", self.sinc_prob),
            check_sizes("sizes", self.sizes),
            check_range("sigma", self.sigma, 0.01, 100),
            check_range("beta_generalized", self.beta_generalized, 0.01, 100),
            check_range("beta_plateau", self.beta_plateau, 0.01, 100),
            check_range("sinc_cutoff", self.sinc_cutoff, 0.01, 1),
            check_range("sinc_cutoff_wide", self.sinc_cutoff_wide, 0.01, 1),
        )


@dataclass(frozen=True, kw_only=True)
class Sinc:
    """The last ringing filter, which stands for over-sharpened and re-encoded pictures."""

    __pydantic_config__ = strict

    prob: float = 0.8
    sizes: tuple[int, ...] = tuple(range(7, 22, 2))
    """Kernel widths in pixels, odd."""
    cutoff: Range = (1 / 3, 1.0)
    """In units of π radians per pixel."""

    def __post_init__(self):
        raise_problems(
            check_probability("prob", self.prob),
            check_sizes("sizes", self.sizes),
            check_range("cutoff", self.cutoff, 0.01, 1),
        )


@dataclass(frozen=True, kw_only=True)
class Resize:
    """A random change of size; in the second stage relative to the low resolution."""

    __pydantic_config__ = strict

    up: float
    """Weight of enlarging by U(1, factor[1])."""
    down: float
    """Weight of shrinking by U(factor[0], 1)."""
    keep: float
    """Weight of factor 1."""
    factor: Range = (1.0, 1.0)
    """Smallest and largest factor; must enclose 1."""
    modes: tuple[ResizeMode, ...] = (ResizeMode.area, ResizeMode.bilinear, ResizeMode.bicubic)
    """One is taken with equal probability."""

    def __post_init__(self):
        problems = [*check_range("factor", self.factor, 0.01, 16), *check_some("modes", self.modes)]
        if not problems and not self.factor[0] <= 1 <= self.factor[1]:
            problems.append(f"factor: expected a range that encloses 1, got {list(self.factor)}")
        raise_problems(check_weights({"up": self.up, "down": self.down, "keep": self.keep}), problems)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gaussian or Poisson noise."""

    __pydantic_config__ = strict

    prob: float = 1.0
    """Probability that there is noise at all."""
    gaussian_prob: float = 0.5
    """Share of Gaussian noise; the rest is Poisson."""
    sigma: Range = (1.0, 30.0)
    """Standard deviation of the Gaussian noise, in levels of 255."""
    poisson_scale: Range = (0.05, 3.0)
    """Factor on the Poisson noise."""
    grey_prob: float = 0.4
    """Probability that all channels get the same noise."""

    def __post_init__(self):
        raise_problems(
            check_probability("prob", self.prob),
            check_probability("gaussian_prob", self.gaussian_prob),
            check_range("sigma", self.sigma, 0, 255),
            check_range("poisson_scale", self.poisson_scale, 0, 100),
            check_probability("grey_prob", self.grey_prob),
        )


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """JPEG compression, 4:2:0, standard tables."""

    __pydantic_config__ = strict

    prob: float = 1.0
    quality: tuple[int, int] = (30, 95)
    """Lowest and highest quality, 1 to 100, every whole number equally likely."""

    def __post_init__(self):
        raise_problems(check_probability("prob", self.prob), check_range("quality", self.quality, 1, 100))


@dataclass(frozen=True, kw_only=True)
class Sharpen:
    """Unsharp mask of the original before anything else; the result is also the training target."""

    __pydantic_config__ = strict

    weight: float = 0.5
    """How much of the detail is added."""
    size: int = 51
    """Width of the Gaussian in pixels, odd."""
    sigma: float = 8.0
    """Standard deviation of the Gaussian in pixels."""
    threshold: float = 10.0
    """Detail below this many levels of 255 is left alone."""

    def __post_init__(self):
        raise_problems(
            check_number("weight", self.weight, 0, 10),
            check_sizes("size", (self.size,)),
            check_number("sigma", self.sigma, 0.01, 1000),
            check_number("threshold", self.threshold, 0, 255),
        )


@dataclass(frozen=True, kw_only=True)
class Halftone:
    """The dot screen of a printed picture, before the first stage."""

    __pydantic_config__ = strict

    prob: float = 1.0
    period_px: Range = (3.0, 6.0)
    """Distance between dots."""
    strength: Range = (0.3, 0.8)
    """0 leaves the picture, 1 prints it in pure dots."""

    def __post_init__(self):
        raise_problems(
            check_probability("prob", self.prob),
            check_range("period_px", self.period_px, 2, 100),
            check_range("strength", self.strength, 0, 1),
        )


@dataclass(frozen=True, kw_only=True)
class Fade:
    """Age of a print: lifted blacks, dull whites, lost colour, yellowed paper; between the two stages."""

    __pydantic_config__ = strict

    prob: float = 1.0
    black: Range = (0.02, 0.2)
    """What black becomes, 0 to 1."""
    white: Range = (0.8, 1.0)
    """What white becomes, 0 to 1."""
    grey: Range = (0.0, 0.6)
    """Share of the colour that is lost; 1 is black and white."""
    warmth: Range = (0.1, 0.8)
    """Yellowing; 1 is a strong sepia."""

    def __post_init__(self):
        raise_problems(
            check_probability("prob", self.prob),
            *(check_range(name, getattr(self, name), 0, 1) for name in ("black", "white", "grey", "warmth")),
        )


@dataclass(frozen=True, kw_only=True)
class Scratches:
    """Scratches and dust on a print, between the two stages."""

    __pydantic_config__ = strict

    prob: float = 1.0
    lines: tuple[int, int] = (0, 5)
    """How many long scratches on a whole print (512×512 pixels or more); a smaller crop gets its share."""
    specks: tuple[int, int] = (0, 40)
    """How many grains of dust and short hairs, counted in the same way."""
    opacity: Range = (0.3, 0.9)

    def __post_init__(self):
        raise_problems(
            check_probability("prob", self.prob),
            check_range("lines", self.lines, 0, 1000),
            check_range("specks", self.specks, 0, 10000),
            check_range("opacity", self.opacity, 0, 1),
        )
