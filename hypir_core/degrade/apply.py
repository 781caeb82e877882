"""Run a recipe over pictures: draw the choices of every picture, then apply them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..errors import ConfigError, ShapeError
from .aging import fade, halftone, scratch
from .choices import Draw, NoiseDraw, Size, StageDraw, kernel_of, sizes_of
from .draw import child_seeds, draw, with_new_noise
from .filtering import filter_image
from .jpeg import jpeg_round_trip
from .noise import add_gaussian_noise, add_poisson_noise
from .notes import describe
from .parts import ResizeMode
from .recipe import Recipe
from .resize import resize_image, scaled_hw
from .sharpen import unsharp_mask


@dataclass(frozen=True, kw_only=True)
class Degraded:
    """What `degrade` returns."""

    lq_01: Tensor
    """The degraded pictures, [b c h' w'] float32, on the 8-bit levels in [0, 1]."""
    target_01: Tensor
    """What a restorer should give back, [b c h w]: the original, sharpened if the recipe says so."""
    notes: tuple[str, ...]
    """One line per picture saying what was done."""


@torch.no_grad()
def degrade(
    hq_01: Tensor,
    recipe: Recipe,
    *,
    generator: Generator,
    scale: float | None = None,
    out_hw: Size | None = None,
) -> Degraded:
    """Degrade every picture with choices of its own.

    The generator gives one child seed per picture (`child_seeds`) and the child decides everything else, so
    picture i of a batch is exactly
    ``apply_draw(target[i : i + 1], draw(recipe, Generator().manual_seed(seed_i)), out_hw=...)``.

    Args:
        hq_01: pictures [b c h w], c 1 or 3, float32 in [0, 1], on any device.
        recipe: what may happen, see `load_recipe`.
        generator: on the CPU; advances by b numbers.
        scale: the result has 1/scale of the size, for training a ×scale restorer. By default the recipe
            decides: the original size with `resize_back`, else the low resolution of the second stage.
        out_hw: exact size of the result, instead of `scale`.

    Raises:
        ShapeError: not [b c h w] with 1 or 3 channels and at least one pixel.
        ConfigError: scale below 1, or both `scale` and `out_hw` given.
    """
    _check(hq_01, scale, out_hw)
    done = [
        _degraded(hq_1chw, recipe, draw(recipe, Generator().manual_seed(seed)), scale, out_hw)
        for seed, hq_1chw in zip(child_seeds(generator, hq_01.shape[0]), hq_01.split(1), strict=True)
    ]
    _check_same_size([one.lq_01 for one in done])
    return Degraded(
        lq_01=torch.cat([one.lq_01 for one in done]),
        target_01=torch.cat([one.target_01 for one in done]),
        notes=tuple(note for one in done for note in one.notes),
    )


@torch.no_grad()
def degrade_clip(
    frames: Iterable[Tensor],
    recipe: Recipe,
    *,
    generator: Generator,
    scale: float | None = None,
    out_hw: Size | None = None,
) -> Iterator[Degraded]:
    """Degrade the frames of a clip with one draw: blur, sizes, JPEG and age are the same for all, noise is new.

    The generator gives one child seed per frame; the first one decides the draw: the first frame is as `degrade`
    makes it. Scratches stay where they are, as on a print that is filmed.

    Args:
        frames: [1 c h w], c 1 or 3, float32 in [0, 1]; read as they are needed.
        recipe: what may happen, see `load_recipe`.
        generator: on the CPU; advances by one number per frame.
        scale: see `degrade`.
        out_hw: see `degrade`.

    Yields:
        Each frame, degraded.

    Raises:
        ShapeError, ConfigError: as `degrade` does.
    """
    choices: Draw | None = None
    for frame in frames:
        _check(frame, scale, out_hw)
        (seed,) = child_seeds(generator, 1)
        child = Generator().manual_seed(seed)
        choices = draw(recipe, child) if choices is None else with_new_noise(choices, child)
        yield _degraded(frame, recipe, choices, scale, out_hw)


def _degraded(
    hq_1chw: Tensor, recipe: Recipe, choices: Draw, scale: float | None, out_hw: Size | None
) -> Degraded:
    hq_1chw = hq_1chw.float()
    full_hw = (hq_1chw.shape[-2], hq_1chw.shape[-1])
    if scale is not None:
        out_hw = scaled_hw(full_hw, 1 / scale)
    target = unsharp_mask(hq_1chw, recipe.sharpen) if recipe.sharpen else hq_1chw
    return Degraded(
        lq_01=apply_draw(target, choices, out_hw=out_hw),
        target_01=target,
        notes=(describe(choices, sizes_of(choices, full_hw, out_hw)),),
    )


@torch.no_grad()
def apply_draw(target_01: Tensor, choices: Draw, *, out_hw: Size | None = None) -> Tensor:
    """Apply the choices to one picture.

    Both resizes of the second stage aim at the low resolution; from there bicubic leads to `out_hw`, if that
    is larger (`sizes_of`).

    Shapes: [1 c h w] float32 in [0, 1] to [1 c *out_hw], rounded to the 8-bit levels.
    """
    sizes = sizes_of(choices, (target_01.shape[-2], target_01.shape[-1]), out_hw)
    image = target_01
    if choices.halftone:
        image = halftone(image, choices.halftone)
    image = _apply_stage(image, choices.stage1, sizes.stage1_hw)
    image = _apply_jpeg(image, choices.stage1.jpeg_quality)
    if choices.fade:
        image = fade(image, choices.fade)
    if choices.scratches:
        image = scratch(image, choices.scratches)
    image = _apply_stage(image, choices.stage2, sizes.stage2_hw)
    if not choices.resize_before_jpeg:
        image = _apply_jpeg(image, choices.stage2.jpeg_quality)
    image = resize_image(image, sizes.low_hw, choices.final_mode)
    if choices.final_sinc:
        image = filter_image(image, kernel_of(choices.final_sinc))
    if choices.resize_before_jpeg:
        image = _apply_jpeg(image, choices.stage2.jpeg_quality)
    image = resize_image(image, sizes.out_hw, ResizeMode.bicubic)
    return image.mul(255).round_().clamp_(0, 255).div_(255)


def _apply_stage(image_01: Tensor, stage: StageDraw, size_hw: Size) -> Tensor:
    """Blur, resize and add noise; the JPEG of a stage has its place in `apply_draw`."""
    if stage.kernel:
        image_01 = filter_image(image_01, kernel_of(stage.kernel))
    if stage.resize:
        image_01 = resize_image(image_01, size_hw, stage.resize.mode)
    if stage.noise:
        image_01 = _apply_noise(image_01, stage.noise)
    return image_01


def _apply_noise(image_01: Tensor, noise: NoiseDraw) -> Tensor:
    g = Generator().manual_seed(noise.seed)
    if noise.gaussian:
        return add_gaussian_noise(image_01, sigma_01=noise.amount / 255, grey=noise.grey, generator=g)
    return add_poisson_noise(image_01, scale=noise.amount, grey=noise.grey, generator=g)


def _apply_jpeg(image_01: Tensor, quality: int | None) -> Tensor:
    return image_01 if quality is None else jpeg_round_trip(image_01, quality)


def _check(hq_01: Tensor, scale: float | None, out_hw: Size | None) -> None:
    if hq_01.ndim != 4 or hq_01.shape[1] not in {1, 3} or 0 in hq_01.shape:
        raise ShapeError(f"expected pictures [b c h w] with c 1 or 3, got {list(hq_01.shape)}")
    if scale is not None and out_hw is not None:
        raise ConfigError("give the size of the result as scale or as out_hw, not both")
    if scale is not None and not 1 <= scale <= 64:
        raise ConfigError(
            f"scale: expected a number from 1 to 64 (the result is that much smaller), got {scale}"
        )
    if out_hw is not None and min(out_hw) < 1:
        raise ConfigError(f"out_hw: expected at least one pixel per side, got {list(out_hw)}")


def _check_same_size(results: list[Tensor]) -> None:
    if len({result.shape for result in results}) > 1:
        raise ConfigError(
            "stage2_scale is a range, so the pictures of this batch get different sizes; "
            "set resize_back, or pass scale or out_hw"
        )
