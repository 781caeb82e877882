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

from ..config import RecipeShare
from .seeds import uniform

CLEAN = "bicubic"
"""Name of the recipe that only shrinks (antialiased bicubic) and rounds to 8 bits."""


@dataclass(frozen=True, eq=False)
class Made:
    """A target and what was made of it, both uint8."""

    hq: Tensor
    """[3 h w]: the picture, sharpened if the recipe says so."""
    lq: Tensor
    """[3 h/scale w/scale]"""
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
        """Choose a recipe and degrade one picture, uint8 [3 h w], on the device that it is on."""
        drawn = uniform(generator, 0.0, sum(self.weights))
        chosen = min(bisect(list(accumulate(self.weights)), drawn), len(self.recipes) - 1)
        done = degrade(hq[None].float() / 255, self.recipes[chosen], generator=generator, scale=self.scale)
        label = f"{self.names[chosen]}: {done.notes[0]}"
        return Made(to_u8(done.target_01[0]), to_u8(done.lq_01[0]), label)


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


def to_u8(image_01: Tensor) -> Tensor:
    """Round to the nearest of 256 levels."""
    return image_01.clamp(0, 1).mul(255).round().to(torch.uint8)
