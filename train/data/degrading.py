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


@dataclass(frozen=True)
class Mixture:
    """Recipes, how often each is chosen, and how much smaller the result is."""

    recipes: tuple[Recipe, ...]
    weights: tuple[float, ...]
    scale: int

    def make(self, hq_01: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Choose a recipe and degrade one picture.

        Shapes: [1 3 h w] → target [1 3 h w] and low quality [1 3 h/scale w/scale], all in [0,1].
        """
        drawn = uniform(generator, 0.0, sum(self.weights))
        chosen = min(bisect(list(accumulate(self.weights)), drawn), len(self.recipes) - 1)
        done = degrade(hq_01, self.recipes[chosen], generator=generator, scale=self.scale)
        return done.target_01, done.lq_01


def build_mixture(shares: Sequence[RecipeShare], *, scale: int, sharpen_target: bool) -> Mixture:
    """Load the recipes of the shares that have a weight.

    Raises:
        UnknownNameError: a recipe that does not exist.
    """
    used = [share for share in shares if share.weight > 0]
    recipes = tuple(recipe_for(share.recipe, sharpen_target=sharpen_target) for share in used)
    return Mixture(recipes, tuple(share.weight for share in used), scale)


def recipe_for(name: str, *, sharpen_target: bool = False) -> Recipe:
    """Return the recipe of a preset name, of a YAML file, or `CLEAN`; unsharpened unless `sharpen_target`."""
    if name == CLEAN:
        return Recipe(final_modes=(ResizeMode.bicubic_antialias,), resize_back=False)
    recipe = load_recipe(name)
    return recipe if sharpen_target else replace(recipe, sharpen=None)
