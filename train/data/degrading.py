"""The mixture of degradations that makes the low-quality half of a pair."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from hypir_core.degrade import Recipe, degrade, load_recipe
from hypir_core.degrade.recipe import ResizeMode
from hypir_core.degrade.resize import resize_image, scaled_hw
from hypir_core.errors import ConfigError
from hypir_core.tiling.sample import POOLS

from ..config import RecipeShare
from ..config.checks import raise_all
from ..config.physics import PhysicsConfig
from .axes import Scale, scales_of
from .levels import from_01, to_01
from .measured import Measured
from .seeds import uniform

CLEAN = "bicubic"
"""Name of the recipe that only shrinks (antialiased bicubic) and rounds to the levels of the picture."""

AREA = "area"
"""Name of the recipe that only averages over cells: any bands, any axes, a factor of its own along each."""

PLAIN = (CLEAN, AREA)
"""Recipes that only shrink; they make values of any size, not only of pictures."""

COLOUR_CHANNELS = (1, 3)
"""What every other recipe is made for."""


@dataclass(frozen=True, eq=False)
class Made:
    """A target and what was made of it."""

    hq: Tensor
    """[c h w] at the depth of the picture, sharpened if the recipe says so."""
    lq: Tensor
    """[c h/scale w/scale]: 8 bits, which recipes imitate, or the depth of the picture where it is only shrunk."""
    label: str
    """The recipe, and what it did."""
    light: Tensor | None = None
    """[4] of `measured.Exposed`, where a microscope measured it."""


@dataclass(frozen=True)
class Mixture:
    """Recipes, how often each is chosen, and how much smaller the result is."""

    recipes: tuple[Recipe, ...]
    names: tuple[str, ...]
    weights: tuple[float, ...]
    scale: Scale
    bounded: bool = True
    """Values lie in [0,1], as those of pictures; those of scenes and volumes have no bounds."""
    noise: float = 0.0
    """Deviation of normal noise on the low-quality half."""
    measured: Measured | None = None
    """The microscope that measures the targets, instead of the recipes."""

    def make(self, hq: Tensor, generator: torch.Generator) -> Made:
        """Choose a recipe and degrade one picture [c h w] of any depth, on the device that it is on.

        Raises:
            ConfigError: the recipe is for colour and the picture has other bands.
        """
        if self.measured is not None:
            exposed = self.measured.expose(to_01(hq), generator)
            return Made(to_01(hq), exposed.lq, exposed.label, exposed.light)
        drawn = uniform(generator, 0.0, sum(self.weights))
        chosen = min(bisect(list(accumulate(self.weights)), drawn), len(self.recipes) - 1)
        name = self.names[chosen]
        if name in PLAIN:
            small = plainly_shrunk(name, to_01(hq)[None], self.scale)[0]
            lq = from_01(small, hq.dtype) if self.bounded else small
            return Made(hq, lq, f"{name}: shrunk ×1/{self.scale}")
        raise_all(colour_problem(name, hq.shape[0]))
        if not isinstance(self.scale, int):
            raise ConfigError(f"data.degrade: {name} shrinks both axes alike, got {self.scale}; use {AREA}")
        done = degrade(to_01(hq)[None], self.recipes[chosen], generator=generator, scale=self.scale)
        target, lq = from_01(done.target_01[0], hq.dtype), from_01(done.lq_01[0], torch.uint8)
        return Made(target, lq, f"{name}: {done.notes[0]}")

    def noisy(self, lq: Tensor, generator: torch.Generator) -> Tensor:
        """Return a low-quality half [c *cells] with noise; where values have no bounds, relative to their spread."""
        if not self.noise:
            return lq
        values = to_01(lq)
        spread = 1.0 if self.bounded else values.flatten(1).std(1).view(-1, *[1] * (values.ndim - 1))
        added = (
            values + torch.randn(values.shape, generator=generator).to(values.device) * self.noise * spread
        )
        return from_01(added, lq.dtype) if self.bounded else added


def build_mixture(
    shares: Sequence[RecipeShare],
    *,
    scale: Scale,
    sharpen_target: bool,
    bounded: bool = True,
    noise: float = 0.0,
    physics: PhysicsConfig | None = None,
) -> Mixture:
    """Load the recipes of the shares that have a weight, or the microscope.

    Raises:
        UnknownNameError: a recipe that does not exist.
    """
    measured = None if physics is None else Measured(physics)
    used = [share for share in shares if share.weight > 0 and not measured]
    recipes = tuple(recipe_for(share.recipe, sharpen_target=sharpen_target) for share in used)
    names = tuple(share.recipe for share in used)
    return Mixture(
        recipes,
        names,
        tuple(share.weight for share in used),
        scale,
        bounded=bounded,
        noise=noise,
        measured=measured,
    )


def recipe_for(name: str, *, sharpen_target: bool = False) -> Recipe:
    """Return the recipe of a preset name, of a YAML file, or one of `PLAIN`; unsharpened unless `sharpen_target`."""
    if name in PLAIN:
        return Recipe(final_modes=(ResizeMode.bicubic_antialias,), resize_back=False)
    recipe = load_recipe(name)
    return recipe if sharpen_target else replace(recipe, sharpen=None)


def plainly_shrunk(name: str, image: Tensor, scale: Scale) -> Tensor:
    """Return [b c *cells] at 1/scale of the size, as the recipe `name` of `PLAIN` does it.

    Raises:
        ConfigError: bicubic, and there are three axes or several factors.
    """
    factors = scales_of(scale, image.ndim - 2)
    if name == AREA:
        return POOLS[image.ndim - 2](image, factors)
    if len(factors) != 2 or factors[0] != factors[1]:
        raise ConfigError(
            f"data.degrade: {CLEAN} shrinks both axes of pictures alike, got factors {list(factors)}; use {AREA}"
        )
    return shrunk(image, factors[0])


def shrunk(image_01: Tensor, scale: int) -> Tensor:
    """Return [b c h w], any channels, at 1/scale of the size by antialiased bicubic; not clamped."""
    height, width = image_01.shape[-2:]
    return resize_image(image_01, scaled_hw((height, width), 1 / scale), ResizeMode.bicubic_antialias)


def colour_problem(recipe: str, channels: int) -> list[str]:
    """Return why `recipe` cannot degrade pictures of so many channels, or nothing."""
    if recipe in PLAIN or channels in COLOUR_CHANNELS:
        return []
    return [
        f"the recipe {recipe} is made for grey and colour (1 or 3 channels), the generator takes {channels}; "
        f"use the recipe {CLEAN} or {AREA}, or give pairs"
    ]
