"""Turning a recipe up or down, part by part."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import ConfigError
from .checks import Range
from .parts import Blur, Fade, Halftone, Jpeg, Noise, Scratches
from .recipe import Recipe, Stage

LIMIT = 3.0


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Factors on what a recipe does: 0 leaves a part out, 1 is the recipe as written, at most 3."""

    blur: float = 1.0
    """On the width of the kernels."""
    noise: float = 1.0
    """On the deviation of the noise."""
    compression: float = 1.0
    """On the distance of the JPEG quality from 100."""
    age: float = 1.0
    """On fading, scratches, dust and the dot screen."""

    def __post_init__(self) -> None:
        names = ("blur", "noise", "compression", "age")
        problems = [
            f"{name} must be from 0 to {LIMIT:g}, got {value:g}"
            for name in names
            if not 0 <= (value := getattr(self, name)) <= LIMIT
        ]
        if problems:
            raise ConfigError(problems)


def with_strengths(recipe: Recipe, strengths: Strengths) -> Recipe:
    """Return the recipe with its ranges scaled; probabilities and sizes of the picture stay."""
    return replace(
        recipe,
        halftone=_halftone(recipe.halftone, strengths.age),
        stage1=_stage(recipe.stage1, strengths),
        fade=_fade(recipe.fade, strengths.age),
        scratches=_scratches(recipe.scratches, strengths.age),
        stage2=_stage(recipe.stage2, strengths),
        final_sinc=recipe.final_sinc if strengths.blur else None,
    )


def _stage(stage: Stage, strengths: Strengths) -> Stage:
    return replace(
        stage,
        blur=_blur(stage.blur, strengths.blur),
        noise=_noise(stage.noise, strengths.noise),
        jpeg=_jpeg(stage.jpeg, strengths.compression),
    )


def _blur(blur: Blur | None, factor: float) -> Blur | None:
    if blur is None or factor == 0:
        return None
    return replace(blur, sigma=_scaled(blur.sigma, factor, low=0.01, high=100))


def _noise(noise: Noise | None, factor: float) -> Noise | None:
    if noise is None or factor == 0:
        return None
    sigma = _scaled(noise.sigma, factor, high=255)
    return replace(noise, sigma=sigma, poisson_scale=_scaled(noise.poisson_scale, factor, high=100))


def _jpeg(jpeg: Jpeg | None, factor: float) -> Jpeg | None:
    if jpeg is None or factor == 0:
        return None
    low, high = (max(1, round(100 - (100 - quality) * factor)) for quality in jpeg.quality)
    return replace(jpeg, quality=(low, high))


def _fade(fade: Fade | None, factor: float) -> Fade | None:
    if fade is None or factor == 0:
        return None
    dark = (1 - fade.white[1], 1 - fade.white[0])
    # Beyond a half, black would become lighter than white.
    black, dark = (_scaled(pair, factor, high=0.49) for pair in (fade.black, dark))
    grey, warmth = (_scaled(pair, factor, high=1) for pair in (fade.grey, fade.warmth))
    return replace(fade, black=black, white=(1 - dark[1], 1 - dark[0]), grey=grey, warmth=warmth)


def _scratches(scratches: Scratches | None, factor: float) -> Scratches | None:
    if scratches is None or factor == 0:
        return None
    lines, specks = (
        (round(low * factor), round(high * factor)) for low, high in (scratches.lines, scratches.specks)
    )
    return replace(scratches, lines=lines, specks=specks)


def _halftone(halftone: Halftone | None, factor: float) -> Halftone | None:
    if halftone is None or factor == 0:
        return None
    return replace(halftone, strength=_scaled(halftone.strength, factor, high=1))


def _scaled(pair: Range, factor: float, *, low: float = 0.0, high: float) -> Range:
    return (min(max(pair[0] * factor, low), high), min(max(pair[1] * factor, low), high))
