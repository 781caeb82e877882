import dataclasses

import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.degrade import (
    Recipe,
    apply_draw,
    child_seeds,
    degrade,
    describe,
    draw,
    load_recipe,
    recipe_names,
    sizes_of,
)
from hypir_core.degrade.parts import Jpeg, Resize, ResizeMode
from hypir_core.degrade.recipe import Stage
from hypir_core.errors import ConfigError, ShapeError


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def photos():
    crops = [skimage.data.astronaut()[:96, 180:276], skimage.data.coffee()[80:176, 200:296]]
    return torch.stack([torch.from_numpy(c.copy()).permute(2, 0, 1).float() / 255 for c in crops])


def assert_8bit(image):
    assert image.dtype == torch.float32
    levels = image * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert image.min() >= 0
    assert image.max() <= 1


@pytest.mark.parametrize("name", recipe_names())
def test_presets_make_pictures_worse_but_recognisable(name, photos):
    x = photos.repeat(4, 1, 1, 1)
    out = degrade(x, load_recipe(name), generator=rng(1))
    assert out.lq_01.shape == x.shape
    assert out.target_01.shape == x.shape
    assert_8bit(out.lq_01)
    assert len(out.notes) == 8
    assert all("\n" not in note and note for note in out.notes)
    error = (out.lq_01 - x).abs().mean((1, 2, 3))
    assert 0.005 < error.mean() < 0.2
    for before, after in zip(x, out.lq_01, strict=True):
        assert torch.corrcoef(torch.stack([before.mean(0).flatten(), after.mean(0).flatten()]))[0, 1] > 0.7


@pytest.mark.parametrize("name", recipe_names())
def test_same_seed_same_result_other_seed_other_result(name, photos):
    recipe = load_recipe(name)
    first, again = (degrade(photos, recipe, generator=rng(3)) for _ in range(2))
    assert torch.equal(first.lq_01, again.lq_01)
    assert first.notes == again.notes
    assert degrade(photos, recipe, generator=rng(4)).notes != first.notes


@pytest.mark.parametrize("name", ["realesrgan", "old-photo", "scan"])
def test_a_batch_is_its_singles_with_the_child_seeds(name, photos):
    recipe = load_recipe(name)
    x = photos.repeat(2, 1, 1, 1)
    batch = degrade(x, recipe, generator=rng(5), scale=4)
    for i, seed in enumerate(child_seeds(rng(5), 4)):
        choices = draw(recipe, rng(seed))
        one = apply_draw(batch.target_01[i : i + 1], choices, out_hw=(24, 24))
        assert torch.equal(one, batch.lq_01[i : i + 1])
        assert batch.notes[i] == describe(choices, sizes_of(choices, (96, 96), (24, 24)))


def test_the_generator_advances_by_the_batch_whatever_the_recipe(photos):
    after = []
    for name in ("light", "realesrgan"):
        g = rng(6)
        degrade(photos, load_recipe(name), generator=g)
        after.append(torch.rand(1, generator=g))
    assert torch.equal(*after)


def test_the_global_random_state_is_not_touched(photos):
    before = torch.get_rng_state()
    degrade(photos, load_recipe("old-photo"), generator=rng())
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_happens_without_parts(photos):
    out = degrade(photos, Recipe(), generator=rng())
    torch.testing.assert_close(out.lq_01, photos)
    assert out.notes == ("nothing", "nothing")
    assert torch.equal(out.target_01, photos)


def test_clean_shrink_is_the_antialiased_bicubic_of_pillow(photos):
    import numpy as np
    from PIL import Image

    recipe = Recipe(final_modes=(ResizeMode.bicubic_antialias,))
    ours = degrade(photos[:1], recipe, generator=rng(), scale=4).lq_01[0].permute(1, 2, 0).numpy() * 255
    levels = (photos[0] * 255).round().byte().permute(1, 2, 0).numpy()
    pillow = np.asarray(Image.fromarray(levels).resize((24, 24), Image.Resampling.BICUBIC))
    assert np.abs(ours - pillow).max() < 1.01
    assert np.abs(ours - pillow).mean() < 0.1


def test_only_the_target_is_sharpened_and_the_original_is_kept(photos):
    before = photos.clone()
    out = degrade(photos, load_recipe("realesrgan"), generator=rng())
    assert torch.equal(photos, before)
    assert out.target_01.std() > photos.std()
    plain = load_recipe("realesrgan", {"sharpen": None})
    assert torch.equal(degrade(photos, plain, generator=rng()).target_01, photos)


@pytest.mark.parametrize(
    ("resize_back", "scale", "out_hw", "expected"),
    [
        (True, None, None, (96, 96)),
        (False, None, None, (24, 24)),
        (True, 4, None, (24, 24)),
        (False, 1, None, (96, 96)),
        (True, 2, None, (48, 48)),
        (True, 8, None, (12, 12)),
        (True, 1.5, None, (64, 64)),
        (False, None, (31, 17), (31, 17)),
    ],
)
def test_size_of_the_result(photos, resize_back, scale, out_hw, expected):
    recipe = dataclasses.replace(load_recipe("realesrgan"), resize_back=resize_back)
    out = degrade(photos, recipe, generator=rng(), scale=scale, out_hw=out_hw)
    assert out.lq_01.shape[-2:] == expected


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(recipe_names()),
    st.sampled_from([(1, 1), (1, 37), (53, 1), (2, 3), (5, 8), (31, 47)]),
    st.sampled_from([1, 3]),
    st.integers(0, 2**31),
)
def test_any_size_and_channel_count(name, hw, channels, seed):
    x = torch.rand(1, channels, *hw, generator=rng(seed))
    out = degrade(x, load_recipe(name), generator=rng(seed))
    assert out.lq_01.shape == x.shape
    assert_8bit(out.lq_01)


def test_jpeg_and_the_last_resize_come_in_both_orders(photos):
    stage2 = Stage(jpeg=Jpeg(quality=(20, 20)))
    notes = []
    for prob in (0.0, 1.0):
        recipe = Recipe(
            stage2=stage2,
            stage2_scale=(4, 4),
            final_modes=(ResizeMode.area,),
            resize_before_jpeg_prob=prob,
            resize_back=False,
        )
        notes += degrade(photos[:1], recipe, generator=rng()).notes
    assert notes == ["jpeg q20, area to 24×24", "area to 24×24, jpeg q20"]


def test_second_stage_resizes_relative_to_the_low_resolution(photos):
    recipe = Recipe(
        stage1=Stage(resize=Resize(up=0, down=1, keep=0, factor=(0.5, 1), modes=(ResizeMode.bilinear,))),
        stage2=Stage(resize=Resize(up=0, down=0, keep=1)),
        stage2_scale=(2, 2),
    )
    choices = draw(recipe, rng())
    sizes = sizes_of(choices, (96, 64))
    assert choices.stage1.resize is not None
    assert sizes.stage1_hw == tuple(int(n * choices.stage1.resize.factor + 0.5) for n in (96, 64))
    assert sizes.stage2_hw == sizes.low_hw == (48, 32)
    assert sizes.out_hw == (96, 64)


def test_bad_input(photos):
    recipe = load_recipe("light")
    with pytest.raises(ShapeError, match=r"c 1 or 3, got \[1, 4, 8, 8\]"):
        degrade(torch.zeros(1, 4, 8, 8), recipe, generator=rng())
    with pytest.raises(ShapeError, match=r"got \[1, 3, 0, 8\]"):
        degrade(torch.zeros(1, 3, 0, 8), recipe, generator=rng())
    with pytest.raises(ConfigError, match="not both"):
        degrade(photos, recipe, generator=rng(), scale=2, out_hw=(8, 8))
    with pytest.raises(ConfigError, match="from 1 to 64"):
        degrade(photos, recipe, generator=rng(), scale=0.5)
    ranged = Recipe(stage2_scale=(1, 8), resize_back=False)
    with pytest.raises(ConfigError, match="different sizes"):
        degrade(photos, ranged, generator=rng())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_runs_on_the_gpu_with_the_same_choices(photos):
    recipe = load_recipe("old-photo")
    on_cpu = degrade(photos, recipe, generator=rng(2))
    on_gpu = degrade(photos.cuda(), recipe, generator=rng(2))
    assert on_gpu.lq_01.is_cuda
    assert on_gpu.notes == on_cpu.notes
    assert (on_gpu.lq_01.cpu() - on_cpu.lq_01).abs().mean() < 0.01
