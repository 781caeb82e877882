"""A margin around the crop: what is cut out is degraded as the whole picture is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hypir_core.degrade import degrade
from hypir_core.errors import ConfigError
from tests.train.pair_streams import SCALE, data, levels, stream
from train.config import Crop, DegradeOn, RecipeShare
from train.data.degrading import recipe_for
from train.data.levels import to_01
from train.data.opening import open_source


def blurred(tmp_path: Path) -> Path:
    recipe = tmp_path / "blur.yaml"
    recipe.write_text(
        "stage1: {blur: {prob: 1, sizes: [13], sigma: [3, 3], mix: {iso: 1, aniso: 0, generalized_iso: 0, "
        "generalized_aniso: 0, plateau_iso: 0, plateau_aniso: 0}, sinc_prob: 0}}\nfinal_modes: [bicubic_antialias]\n",
        encoding="utf-8",
    )
    return recipe


@pytest.mark.parametrize("degrade_on", list(DegradeOn))
def test_with_a_margin_the_crop_is_degraded_as_the_whole_picture_is(tmp_path, degrade_on):
    root = tmp_path / "pictures"
    root.mkdir()
    pixels = (levels(0, height=64, width=64) // 257).astype(np.uint8)
    Image.fromarray(pixels).save(root / "a.png")
    share = (RecipeShare(recipe=str(blurred(tmp_path))),)
    whole_01 = to_01(torch.from_numpy(pixels).permute(2, 0, 1))[None]
    recipe = recipe_for(share[0].recipe)
    whole = degrade(whole_01, recipe, generator=torch.Generator().manual_seed(0), scale=SCALE).lq_01
    expected = whole[0, :, 12:20, 12:20]
    off = {}
    for margin_px in (0, 16):
        config = data(
            root, crop=Crop.center, degrade=share, margin_px=margin_px, degrade_on=degrade_on, batch_size=1
        )
        batch = next(stream(config))
        assert batch.hq.shape == (1, 3, 16, 16)
        assert torch.equal(batch.hq[0], whole_01[0, :, 24:40, 24:40])
        off[margin_px] = float((batch.lq[0] - expected).abs().max())
    assert off[16] < 0.6 / 255
    assert off[0] > 5 / 255


def test_a_margin_needs_larger_pictures_and_divides_by_the_scale(tmp_path):
    Image.new("RGB", (30, 40)).save(tmp_path / "small.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "large.png")
    source = open_source(data(tmp_path, margin_px=8), scale=SCALE)
    expected = "small.png: is 30×40 px, smaller than 32 px (data.crop_px and 2 × data.margin_px)"
    assert source.skipped == (expected,)
    with pytest.raises(ConfigError, match=r"data\.margin_px: 7 must divide by the generator's scale 2"):
        open_source(data(tmp_path, margin_px=7), scale=SCALE)
