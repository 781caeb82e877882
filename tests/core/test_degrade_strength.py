"""Turning a recipe up and down."""

from __future__ import annotations

import pytest
import torch

from hypir_core.degrade import degrade, load_recipe, recipe_names
from hypir_core.degrade.recipe import Recipe
from hypir_core.degrade.strength import LIMIT, Strengths, with_strengths
from hypir_core.errors import ConfigError

NOTHING = {"blur": 0.0, "noise": 0.0, "compression": 0.0, "age": 0.0}


@pytest.mark.parametrize("name", recipe_names())
def test_one_is_the_recipe_itself(name):
    recipe = load_recipe(name)
    scaled = with_strengths(recipe, Strengths())
    assert scaled.stage1 == recipe.stage1
    assert scaled.stage2 == recipe.stage2
    assert (scaled.scratches, scaled.halftone, scaled.final_sinc) == (
        recipe.scratches,
        recipe.halftone,
        recipe.final_sinc,
    )
    if recipe.fade:
        for field in ("black", "white", "grey", "warmth"):
            assert getattr(scaled.fade, field) == pytest.approx(getattr(recipe.fade, field))


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("factor", [0.3, LIMIT])
def test_every_recipe_stays_valid(name, factor):
    with_strengths(load_recipe(name), Strengths(blur=factor, noise=factor, compression=factor, age=factor))


def test_zero_leaves_every_part_out():
    recipe = with_strengths(load_recipe("old-photo"), Strengths(**NOTHING))
    assert (recipe.fade, recipe.scratches, recipe.halftone, recipe.final_sinc) == (None,) * 4
    for stage in (recipe.stage1, recipe.stage2):
        assert (stage.blur, stage.noise, stage.jpeg) == (None, None, None)


@pytest.mark.parametrize(("part", "option"), [("noise", "noise"), ("jpeg", "compression"), ("fade", "age")])
def test_more_of_a_part_damages_more(part, option):
    data = {
        "noise": {"stage1": {"noise": {"gaussian_prob": 1, "sigma": [8, 8]}}},
        "jpeg": {"stage1": {"jpeg": {"quality": [60, 60]}}},
        "fade": {
            "fade": {"black": [0.1, 0.1], "white": [0.9, 0.9], "grey": [0.2, 0.2], "warmth": [0.2, 0.2]}
        },
    }[part]
    from hypir_core.config import build

    recipe, image = build(Recipe, data), torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(5))
    errors = []
    for factor in (0.0, 0.5, 1.0, 1.5):
        turned = with_strengths(recipe, Strengths(**{option: factor}))
        worse = degrade(image, turned, generator=torch.Generator().manual_seed(1)).lq_01
        errors.append((worse - image).square().mean().item())
    assert errors == sorted(errors)
    assert errors[0] < errors[-1] / 10


def test_strengths_out_of_range_are_all_told():
    with pytest.raises(
        ConfigError, match=r"blur must be from 0 to 3, got -1\nage must be from 0 to 3, got 4"
    ):
        Strengths(blur=-1, age=4)
