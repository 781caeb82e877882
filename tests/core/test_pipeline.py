"""The spine, with the restorer that ships in the package."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.color.mode import ColorFix
from hypir_core.engines.catalog import load_engine
from hypir_core.errors import Cancelled, ConfigError, RangeError, ShapeError, UnknownNameError
from hypir_core.image.resize import resize
from hypir_core.image.size import TargetSize
from hypir_core.pipeline import restore
from hypir_core.request import Request
from hypir_core.runtime import Runtime
from hypir_core.tiling.plan import TileWish

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def engine():
    return load_engine("built-in", options={}, device=CPU, dtype="float32")


def photo(h: int, w: int, seed: int = 0) -> torch.Tensor:
    """A smooth random picture."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, max(2, h // 8), max(2, w // 8), generator=generator)
    return resize(coarse, (h, w)).clamp(0, 1)


@given(st.integers(1, 70), st.integers(1, 70), st.floats(1, 8))
@settings(max_examples=25, deadline=None)
def test_any_size_and_scale_gives_exactly_the_rounded_size(h, w, scale):
    engine = load_engine("built-in", options={}, device=CPU, dtype="float32")
    restored = restore(engine, photo(h, w), Request(target=TargetSize(scale=scale)), Runtime())
    assert restored.image_01.shape == (1, 3, max(1, round(h * scale)), max(1, round(w * scale)))
    assert restored.image_01.dtype is torch.float32
    assert restored.image_01.min() >= 0
    assert restored.image_01.max() <= 1
    assert restored.report.output_px == restored.image_01.shape[-2:]


@pytest.mark.parametrize(
    ("target", "size"),
    [
        (TargetSize(), (160, 240)),
        (TargetSize(longest_side_px=90), (60, 90)),
        (TargetSize(longest_side_px=33), (22, 33)),
        (TargetSize(shortest_side_px=60), (60, 90)),
        (TargetSize(shortest_side_px=27), (27, 40)),
        (TargetSize(megapixels=0.0216), (120, 180)),
    ],
)
def test_sizes_by_side_and_area(engine, target, size):
    assert restore(engine, photo(40, 60), Request(target=target), Runtime()).report.output_px == size


def test_tiled_equals_untiled_when_the_overlap_covers_the_receptive_field(engine):
    image = photo(150, 210)
    whole = restore(engine, image, Request(tile=TileWish(tile_px=4 * 256, overlap_px=0)), Runtime())
    assert "1×1 tiles" in whole.report.stages[0].tiles
    tiled = restore(
        engine, image, Request(tile=TileWish(tile_px=4 * 80, overlap_px=4 * 2 * engine.radius)), Runtime()
    )
    assert tiled.report.stages[0].redundancy > 1.5
    torch.testing.assert_close(tiled.image_01, whole.image_01, atol=1e-4, rtol=0)


def test_the_default_tiles_equal_untiled_too(engine):
    image = photo(300, 300)
    whole = restore(engine, image, Request(tile=TileWish(tile_px=4 * 400, overlap_px=0)), Runtime())
    default = restore(engine, image, Request(), Runtime())
    assert "2×2 tiles" in default.report.stages[0].tiles
    torch.testing.assert_close(default.image_01, whole.image_01, atol=1e-4, rtol=0)


def test_batch_equals_singles_and_runs_repeat(engine):
    images = torch.cat([photo(30, 50, seed) for seed in range(3)])
    batch = restore(engine, images, Request(), Runtime()).image_01
    for index in range(3):
        single = restore(engine, images[index : index + 1], Request(), Runtime()).image_01
        torch.testing.assert_close(batch[index : index + 1], single, atol=1e-5, rtol=0)
    assert torch.equal(batch, restore(engine, images, Request(), Runtime()).image_01)


def test_strength_and_mask_blend_with_the_resized_input(engine):
    image = photo(40, 40)
    size = (160, 160)
    before = resize(image, size).clamp(0, 1)
    after = restore(engine, image, Request(), Runtime()).image_01
    half = restore(engine, image, Request(strength=0.5), Runtime()).image_01
    torch.testing.assert_close(half, (before + after) / 2, atol=1e-5, rtol=0)
    nothing = restore(engine, image, Request(strength=0), Runtime()).image_01
    torch.testing.assert_close(nothing, before, atol=1e-5, rtol=0)
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., 20:] = 1
    masked = restore(engine, image, Request(), Runtime(), mask_01=mask).image_01
    torch.testing.assert_close(masked[..., :70], before[..., :70], atol=1e-5, rtol=0)
    torch.testing.assert_close(masked[..., 90:], after[..., 90:], atol=1e-5, rtol=0)


def test_wavelet_color_fix_takes_low_frequencies_from_the_input(engine):
    image = photo(60, 60)
    fixed = restore(engine, image, Request(color_fix=ColorFix.wavelet), Runtime())
    assert fixed.report.color_fix == "wavelet"
    difference = fixed.image_01 - resize(image, (240, 240)).clamp(0, 1)
    assert difference.mean((0, 2, 3)).abs().max() < 2e-3


def test_grey_stays_grey_and_follows_the_colour_path(engine):
    grey = photo(20, 30).mean(1, keepdim=True)
    out = restore(engine, grey, Request(), Runtime()).image_01
    color = restore(engine, grey.expand(-1, 3, -1, -1), Request(), Runtime()).image_01
    assert out.shape == (1, 1, 80, 120)
    torch.testing.assert_close(out, color.mean(1, keepdim=True), atol=1e-6, rtol=0)


# Near white, bfloat16 has steps of a whole 8-bit level.
@pytest.mark.parametrize(("dtype", "mean"), [("bfloat16", 0.75 / 255), ("float16", 0.25 / 255)])
def test_half_formats_stay_close(dtype, mean):
    full = load_engine("built-in", options={}, device=CPU, dtype="float32")
    half = load_engine("built-in", options={}, device=CPU, dtype=dtype)
    image = photo(40, 40)
    a = restore(full, image, Request(), Runtime()).image_01
    b = restore(half, image, Request(), Runtime()).image_01
    assert (a - b).abs().max() < 0.03
    assert (a - b).abs().mean() < mean


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (torch.rand(3, 8, 8), ShapeError, r"expected a picture \[b 3 h w\].*got \(3, 8, 8\)"),
        (torch.rand(1, 4, 8, 8), ShapeError, "takes 3 channels, the picture has 4"),
        (torch.rand(1, 3, 0, 8), ShapeError, r"got \(1, 3, 0, 8\)"),
        (torch.rand(1, 3, 8, 8) + 0.5, RangeError, r"in \[0,1\], got 0\.\d+ to 1\.\d+"),
        (torch.full((1, 3, 8, 8), float("nan")), RangeError, "got nan"),
        (torch.full((1, 3, 8, 8), float("inf")), RangeError, "got inf"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), RangeError, "divide by 255"),
    ],
)
def test_what_is_no_picture_is_refused(engine, image, error, message):
    with pytest.raises(error, match=message):
        restore(engine, image, Request(), Runtime())


def test_too_large_a_result_names_the_scale_that_fits(engine):
    with pytest.raises(ConfigError, match=r"24000×40 px.*at most 2\.73"):
        restore(engine, torch.zeros(1, 3, 10, 6000), Request(), Runtime())


def test_a_mask_of_another_size_is_refused(engine):
    with pytest.raises(
        ShapeError, match=r"the mask as large as the picture, \[b\|1 1 8 8\], got \(1, 1, 4, 4\)"
    ):
        restore(engine, photo(8, 8), Request(), Runtime(), mask_01=torch.ones(1, 1, 4, 4))


def test_cancel(engine):
    with pytest.raises(Cancelled, match="stage 'restore'"):
        restore(engine, photo(8, 8), Request(), Runtime(should_stop=lambda: True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strength": 1.5}, "strength must be from 0 to 1, got 1.5"),
        ({"color_strength": float("nan")}, "color strength must be from 0 to 1, got nan"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_bad_requests(changes, message):
    with pytest.raises(ConfigError, match=message):
        Request(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 0}, "scale must be from 1 to 8, got 0"),
        ({"scale": 9}, "got 9"),
        ({"scale": float("nan")}, "got nan"),
        ({"scale": 2, "megapixels": 3}, "give one of scale, longest side, shortest side and megapixels"),
        ({"longest_side_px": 9, "shortest_side_px": 9}, "got longest_side_px and shortest_side_px"),
        ({"shortest_side_px": 0}, "shortest side must be from 1 to 16384 px, got 0"),
        ({"longest_side_px": 20000}, "from 1 to 16384 px"),
        ({"megapixels": float("inf")}, "positive number, got inf"),
    ],
)
def test_bad_sizes(changes, message):
    with pytest.raises(ConfigError, match=message):
        TargetSize(**changes)


def test_unknown_engine_and_option():
    with pytest.raises(UnknownNameError, match=r"unknown engine 'builtin' \(did you mean 'built-in'\?\)"):
        load_engine("builtin", options={}, device=CPU)
    with pytest.raises(ConfigError, match=r"unknown key 'wieghts' .did you mean 'weights'"):
        load_engine("upscaler", options={"wieghts": "x"}, device=CPU)


def test_the_report_is_json_and_tells_the_plan(engine):
    report = json.loads(restore(engine, photo(300, 40), Request(), Runtime()).report.to_json())
    assert report["output_px"] == [1200, 160]
    assert report["stages"][0]["redundancy"] > 1
    assert "redundancy" in report["stages"][0]["tiles"]
    assert report["weights"].startswith("restorer_x4.safetensors sha256:")


def test_the_request_key_depends_on_every_field():
    assert Request().key() == Request().key()
    assert (
        len(
            {
                Request().key(),
                Request(seed=1).key(),
                Request(prompt="a cat").key(),
                Request(tile=TileWish(tile_px=64)).key(),
            }
        )
        == 4
    )
