"""Draw the choices for one picture from a recipe.

Everything random about a sample is decided here by one generator; noise and scratches, which need many
numbers, get a seed of their own. A `Draw` can be kept, compared and applied again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Generator

from .checks import Range
from .choices import (
    Draw,
    FadeDraw,
    HalftoneDraw,
    KernelDraw,
    NoiseDraw,
    ResizeDraw,
    ScratchesDraw,
    StageDraw,
)
from .parts import Blur, Fade, Halftone, Jpeg, KernelKind, Noise, Resize, Scratches, Sinc
from .recipe import Recipe, Stage

T = TypeVar("T")


def draw(recipe: Recipe, generator: Generator) -> Draw:
    """Choose everything for one picture; only `generator` (on the CPU) decides and advances."""
    return Draw(
        halftone=_halftone(recipe.halftone, generator),
        stage1=_stage(recipe.stage1, generator),
        fade=_fade(recipe.fade, generator),
        scratches=_scratches(recipe.scratches, generator),
        stage2=_stage(recipe.stage2, generator),
        stage2_scale=_uniform(recipe.stage2_scale, generator),
        final_mode=_one_of(recipe.final_modes, generator),
        final_sinc=_final_sinc(recipe.final_sinc, generator),
        resize_before_jpeg=_happens(recipe.resize_before_jpeg_prob, generator),
        resize_back=recipe.resize_back,
    )


def child_seeds(generator: Generator, count: int) -> tuple[int, ...]:
    """Return one seed per picture; the generator advances by `count` numbers, whatever the recipe."""
    return tuple(torch.randint(_SEEDS, (count,), generator=generator).tolist())


def with_new_noise(choices: Draw, generator: Generator) -> Draw:
    """Return the same choices with other random numbers for the noise: the next frame of a clip."""

    def renewed(stage: StageDraw) -> StageDraw:
        seed = _seed(generator)
        return replace(stage, noise=stage.noise and replace(stage.noise, seed=seed))

    return replace(choices, stage1=renewed(choices.stage1), stage2=renewed(choices.stage2))


def _stage(stage: Stage, g: Generator) -> StageDraw:
    return StageDraw(
        kernel=_kernel(stage.blur, g),
        resize=_resize(stage.resize, g),
        noise=_noise(stage.noise, g),
        jpeg_quality=_quality(stage.jpeg, g),
    )


def _kernel(blur: Blur | None, g: Generator) -> KernelDraw | None:
    if blur is None or not _happens(blur.prob, g):
        return None
    size = _one_of(blur.sizes, g)
    if _happens(blur.sinc_prob, g):
        cutoff = blur.sinc_cutoff if size < 13 else blur.sinc_cutoff_wide
        return KernelDraw(kind=KernelKind.sinc, size=size, cutoff=math.pi * _uniform(cutoff, g))
    weights = blur.mix.as_weights()
    kind = KernelKind(list(weights)[_weighted(tuple(weights.values()), g)])
    sigma_x = sigma_y = _uniform(blur.sigma, g)
    angle = beta = 0.0
    if kind in {KernelKind.aniso, KernelKind.generalized_aniso, KernelKind.plateau_aniso}:
        sigma_y = _uniform(blur.sigma, g)
        angle = _uniform((-math.pi, math.pi), g)
    if kind in {KernelKind.generalized_iso, KernelKind.generalized_aniso}:
        beta = _beta(blur.beta_generalized, g)
    elif kind in {KernelKind.plateau_iso, KernelKind.plateau_aniso}:
        beta = _beta(blur.beta_plateau, g)
    return KernelDraw(kind=kind, size=size, sigma_x=sigma_x, sigma_y=sigma_y, angle=angle, beta=beta)


def _beta(limits: Range, g: Generator) -> float:
    """Draw from the part of the range below 1 or from the part above 1, with equal probability."""
    middle = min(max(1.0, limits[0]), limits[1])
    return _uniform((limits[0], middle) if _happens(0.5, g) else (middle, limits[1]), g)


def _final_sinc(sinc: Sinc | None, g: Generator) -> KernelDraw | None:
    if sinc is None or not _happens(sinc.prob, g):
        return None
    size = _one_of(sinc.sizes, g)
    return KernelDraw(kind=KernelKind.sinc, size=size, cutoff=math.pi * _uniform(sinc.cutoff, g))


def _resize(resize: Resize | None, g: Generator) -> ResizeDraw | None:
    if resize is None:
        return None
    low, high = resize.factor
    which = _weighted((resize.up, resize.down, resize.keep), g)
    factor = _uniform(((1.0, high), (low, 1.0), (1.0, 1.0))[which], g)
    return ResizeDraw(factor=factor, mode=_one_of(resize.modes, g))


def _noise(noise: Noise | None, g: Generator) -> NoiseDraw | None:
    if noise is None or not _happens(noise.prob, g):
        return None
    gaussian = _happens(noise.gaussian_prob, g)
    amount = _uniform(noise.sigma if gaussian else noise.poisson_scale, g)
    return NoiseDraw(gaussian=gaussian, amount=amount, grey=_happens(noise.grey_prob, g), seed=_seed(g))


def _quality(jpeg: Jpeg | None, g: Generator) -> int | None:
    if jpeg is None or not _happens(jpeg.prob, g):
        return None
    return _whole(jpeg.quality, g)


def _halftone(halftone: Halftone | None, g: Generator) -> HalftoneDraw | None:
    if halftone is None or not _happens(halftone.prob, g):
        return None
    return HalftoneDraw(
        period_px=_uniform(halftone.period_px, g),
        strength=_uniform(halftone.strength, g),
        angle=_uniform((-0.1, 0.1), g),
    )


def _fade(fade: Fade | None, g: Generator) -> FadeDraw | None:
    if fade is None or not _happens(fade.prob, g):
        return None
    return FadeDraw(
        black=_uniform(fade.black, g),
        white=_uniform(fade.white, g),
        grey=_uniform(fade.grey, g),
        warmth=_uniform(fade.warmth, g),
    )


def _scratches(scratches: Scratches | None, g: Generator) -> ScratchesDraw | None:
    if scratches is None or not _happens(scratches.prob, g):
        return None
    return ScratchesDraw(
        lines=_whole(scratches.lines, g),
        specks=_whole(scratches.specks, g),
        opacity=_uniform(scratches.opacity, g),
        seed=_seed(g),
    )


_SEEDS = 2**63 - 1


def _uniform(limits: Range, g: Generator) -> float:
    return limits[0] + (limits[1] - limits[0]) * torch.rand((), generator=g, dtype=torch.float64).item()


def _happens(prob: float, g: Generator) -> bool:
    return _uniform((0.0, 1.0), g) < prob


def _whole(limits: tuple[int, int], g: Generator) -> int:
    return int(torch.randint(limits[0], limits[1] + 1, (), generator=g))


def _seed(g: Generator) -> int:
    return int(torch.randint(_SEEDS, (), generator=g))


def _one_of(options: Sequence[T], g: Generator) -> T:
    return options[_whole((0, len(options) - 1), g)]


def _weighted(weights: tuple[float, ...], g: Generator) -> int:
    """Return an index with probability proportional to its weight; never one of weight 0."""
    left = _uniform((0.0, sum(weights)), g)
    for index, weight in enumerate(weights):
        if left < weight:
            return index
        left -= weight
    return max(index for index, weight in enumerate(weights) if weight > 0)
