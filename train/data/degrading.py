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

from ..config import RecipeShare
from ..config.checks import raise_all
from .levels import from_01, to_01
from .seeds import uniform

CLEAN = "bicubic"
"""Name of the recipe that only shrinks (antialiased bicubic) and rounds to the levels of the picture."""

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


@dataclass(frozen=True)
class Mixture:
    """Recipes, how often each is chosen, and how much smaller the result is."""

    recipes: tuple[Recipe, ...]
    names: tuple[str, ...]
    weights: tuple[float, ...]
    scale: int

    def make(self, hq: Tensor, generator: torch.Generator) -> Made:
        """Choose a recipe and degrade one picture [c h w] of any depth, on the device that it is on.

        Raises:
            ConfigError: the recipe is for colour and the picture has other bands.
        """
        drawn = uniform(generator, 0.0, sum(self.weights))
        chosen = min(bisect(list(accumulate(self.weights)), drawn), len(self.recipes) - 1)
        name = self.names[chosen]
        if name == CLEAN:
            lq = from_01(shrunk(to_01(hq)[None], self.scale)[0], hq.dtype)
            return Made(hq, lq, f"{name}: shrunk ×1/{self.scale}")
        raise_all(colour_problem(name, hq.shape[0]))
        done = degrade(to_01(hq)[None], self.recipes[chosen], generator=generator, scale=self.scale)
        target, lq = from_01(done.target_01[0], hq.dtype), from_01(done.lq_01[0], torch.uint8)
        return Made(target, lq, f"{name}: {done.notes[0]}")


def build_mixture(shares: Sequence[RecipeShare], *, scale: int, sharpen_target: bool) -> Mixture:
    """Load the recipes of the shares that have a weight.

    Raises:
        UnknownNameError: a recipe that does not exist.
    """
    used = [share for share in shares if share.weight > 0]
    recipes = tuple(recipe_for(share.recipe, sharpen_target=sharpen_target) for share in used)
    names = tuple(share.recipe for share in used)
    return Mixture(recipes, names, tuple(share.weight for share in used), scale)


def recipe_for(name: str, *, sharpen_target: bool = False) -> Recipe:
    """Return the recipe of a preset name, of a YAML file, or `CLEAN`; unsharpened unless `sharpen_target`."""
    if name == CLEAN:
        return Recipe(final_modes=(ResizeMode.bicubic_antialias,), resize_back=False)
    recipe = load_recipe(name)
    return recipe if sharpen_target else replace(recipe, sharpen=None)


def shrunk(image_01: Tensor, scale: int) -> Tensor:
    """Return [b c h w], any channels, at 1/scale of the size by antialiased bicubic; not clamped."""
    height, width = image_01.shape[-2:]
    return resize_image(image_01, scaled_hw((height, width), 1 / scale), ResizeMode.bicubic_antialias)


def colour_problem(recipe: str, channels: int) -> list[str]:
    """Return why `recipe` cannot degrade pictures of so many channels, or nothing."""
    if recipe == CLEAN or channels in COLOUR_CHANNELS:
        return []
    return [
        f"the recipe {recipe} is made for grey and colour (1 or 3 channels), the generator takes {channels}; "
        f"use the recipe {CLEAN}, or give pairs"
    ]
