"""Make good pictures worse, as the world does: blur, resizing, noise, compression, age."""

from .apply import Degraded, apply_draw, degrade, degrade_clip
from .choices import Draw, Sizes, sizes_of
from .draw import child_seeds, draw, with_new_noise
from .jpeg import jpeg_round_trip
from .notes import describe
from .recipe import Recipe, load_recipe, recipe_names

__all__ = [
    "Degraded",
    "Draw",
    "Recipe",
    "Sizes",
    "apply_draw",
    "child_seeds",
    "degrade",
    "degrade_clip",
    "describe",
    "draw",
    "jpeg_round_trip",
    "load_recipe",
    "recipe_names",
    "sizes_of",
    "with_new_noise",
]
