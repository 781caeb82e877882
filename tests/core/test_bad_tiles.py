"""Tiles that go wrong are seen, made again in float32 once, and reported."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.engines.diffusion.networks import diffusers_networks
from hypir_core.errors import RangeError
from hypir_core.models.sd.backbone import load_base
from hypir_core.models.sd.fold import fold_timestep_
from hypir_core.tiling.bad_tiles import FLAT, LIVELY, TileWatch, change, flat
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileConfig, TileWish
from hypir_core.tiling.run import run_stage
from hypir_core.tiling.stage import Stage, Watch
from hypir_core.weights.search.locate import locate_base

CPU = torch.device("cpu")
TILES = TileWish(tile_px=16, overlap_px=4)


def smooth(tile, _guides):
    """A network that works: a blur, which is no multiple of its input."""
    return torch.nn.functional.avg_pool2d(tile, 3, 1, 1)


def failing(at, value):
    """The same network, failing on the tile whose first cell is `at`: `value` of (the tile) comes out."""

    def run(tile, guides):
        out = smooth(tile, guides)
        for i in range(len(tile)):
            if tile[i, 0, 0, 0] == at:
                out[i] = value(tile[i])
        return out

    return run


def stage(**more) -> Stage:
    return replace(
        Stage(
            name="step",
            run=smooth,
            out_channels=2,
            out_strides=1,
            grain_px=1,
            bytes_per_px=8.0,
            min_tile_px=16,
            tile=TileConfig(),
        ),
        **more,
    )


@pytest.fixture
def picture(rng):
    return torch.rand(2, 2, 40, 52, generator=rng)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda tile: tile * float("nan"), "NaN or infinity; repeated in float32"),
        (lambda tile: tile / 0, "NaN or infinity; repeated in float32"),
        (lambda tile: tile * 0 + 0.5, "nearly constant; repeated in float32"),
        (lambda tile: tile * 1.15, "changed far less than its neighbours; repeated in float32"),
    ],
)
def test_a_wrong_tile_is_made_again_and_leaves_no_trace(picture, value, said, batch):
    runtime = Runtime(batch_tiles=batch)
    right, clean = run_stage(
        stage(repeat=smooth, watch=Watch(idle=True)), Plane(picture), wish=TILES, runtime=runtime
    )
    assert clean.bad_tiles == ()
    third = picture[1, 0, 0, 24]  # where the third tile of the first row begins
    broken = stage(run=failing(third, value), repeat=smooth, watch=Watch(idle=True))
    if "far less" in said:
        picture = picture[1:]
        right = Plane(right.data[1:])
    mended, report = run_stage(broken, Plane(picture), wish=TILES, runtime=runtime)
    assert report.bad_tiles == (f"step: tile at x 24, y 0: {said}",)
    torch.testing.assert_close(mended.data, right.data)


def test_without_another_way_a_constant_tile_is_reported_and_nan_refused(picture):
    at = picture[0, 0, 0, 0]
    broken = stage(run=failing(at, lambda tile: tile * 0))
    _, report = run_stage(broken, Plane(picture), wish=TILES, runtime=Runtime())
    assert report.bad_tiles == ("step: tile at x 0, y 0: nearly constant",)
    idle = stage(run=failing(at, lambda tile: tile), watch=Watch(idle=True))
    _, report = run_stage(idle, Plane(picture[:1]), wish=TILES, runtime=Runtime())
    assert report.bad_tiles == ("step: tile at x 0, y 0: changed far less than its neighbours",)
    with pytest.raises(RangeError, match="x 0, y 0: NaN or infinity, and this stage cannot"):
        run_stage(
            stage(run=failing(at, lambda tile: tile / 0)), Plane(picture), wish=TILES, runtime=Runtime()
        )


def test_what_is_no_better_in_float32_is_said_or_refused(picture):
    at = picture[0, 0, 0, 0]
    stuck = failing(at, lambda tile: tile)
    _, report = run_stage(
        stage(run=stuck, repeat=stuck, watch=Watch(idle=True)),
        Plane(picture[:1]),
        wish=TILES,
        runtime=Runtime(),
    )
    assert report.bad_tiles == (
        "step: tile at x 0, y 0: changed far less than its neighbours; the same in float32",
    )
    hopeless = failing(at, lambda tile: tile * float("nan"))
    with pytest.raises(RangeError, match="even in float32"):
        run_stage(stage(run=hopeless, repeat=hopeless), Plane(picture), wish=TILES, runtime=Runtime())


def test_a_blank_page_is_not_wrong():
    blank = torch.full((1, 2, 40, 40), 0.9) + 0.004 * torch.rand(1, 2, 40, 40)
    whitened = stage(run=lambda tile, _: torch.ones_like(tile), repeat=smooth, watch=Watch(idle=True))
    assert run_stage(whitened, Plane(blank), wish=TILES, runtime=Runtime())[1].bad_tiles == ()


@given(st.floats(1e-4, 1e4), st.floats(0, 0.2))
def test_flatness_does_not_depend_on_the_scale(scale, swing):
    wave = torch.tensor([1.0, -1.0]).repeat(8).reshape(1, 1, 4, 4)
    tile = scale * (1 + swing * wave)
    for limit in (FLAT, LIVELY):
        ratio = swing / (1 + swing)
        if abs(ratio - limit) > 1e-5:
            assert bool(flat(tile, limit)) == (ratio <= limit)


def test_change_is_the_sine_of_the_angle(rng):
    a = torch.randn(1, 4, 8, 8, generator=rng)
    b = torch.randn(1, 4, 8, 8, generator=rng)
    b -= a * (a * b).sum() / a.square().sum()
    b *= a.norm() / b.norm()
    assert change(a, -3 * a) == pytest.approx(0, abs=1e-6)
    assert change(a, b) == pytest.approx(1)
    assert change(a, 2 * (a + b)) == pytest.approx(0.5**0.5)
    assert change(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)) == 1


def test_idle_tiles_are_judged_by_those_around_them():
    watch = TileWatch("step")
    assert watch.idle([0.5, 0.5, 0.04, 0.6, 0.5, 0.5], counts=(2, 3)) == [2]
    assert watch.idle([0.0], counts=(1, 1)) == []
    assert watch.idle([0.0, 0.0, 0.0, 0.0], counts=(2, 2)) == []
    # A calm region next to a busy one is no fault.
    assert watch.idle([0.02, 0.02, 0.5, 0.02, 0.02, 0.5], counts=(2, 3)) == []


@pytest.fixture
def engine(golden):
    given = {"lora": golden / "hypir" / "lora.pth", "base_model": str(golden / "hypir" / "model")}
    return load_engine("one-step", options=given, device=CPU, dtype="float32")


def overflowing(engine, golden, dtype, factor):
    """The engine with a VAE whose values leave float16; the next normalisation brings them back."""
    backbone = load_base(locate_base(str(golden / "hypir" / "model")))
    fold_timestep_(backbone.unet, 200)
    backbone.vae.decoder.conv_in.weight.data *= factor
    made = diffusers_networks(backbone, dtype=dtype, device=CPU)
    return replace(engine, codec=made.codec, denoiser=made.denoiser, conditioner=made.conditioner)


def test_a_network_that_overflows_in_half_precision(engine, golden, rng):
    photo = torch.rand(1, 3, 520, 160, generator=rng)
    request = Request(target=TargetSize(scale=1), tile=TileWish(tile_px=384, overlap_px=64))

    def run(dtype, factor):
        return restore(overflowing(engine, golden, dtype, factor), photo, request, Runtime(batch_tiles=2))

    half, full = run(torch.float16, 2e5), run(torch.float32, 2e5)
    assert "decode: tile at x 0, y 0: NaN or infinity; repeated in float32" in half.report.notes
    assert full.report.notes == ()
    assert (half.image_01 - full.image_01).abs().mean() < 0.01
    with pytest.raises(RangeError, match=r"decode: tile at x 0, y 0: NaN or infinity, even in float32"):
        run(torch.float16, float("nan"))
