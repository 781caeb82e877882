"""Edges before, sharpening after: only the light, never a halo, the same in blocks and from a stream."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hypir_core import ColorFix, Request, Runtime, TargetSize, TileWish, load_engine, restore
from hypir_core.errors import Cancelled, ConfigError, RangeError, ShapeError
from hypir_core.files.source import ArraySource
from hypir_core.finishing import check_luma, edges_enhanced, sharpen_
from hypir_core.image.finish import LUMA, REACH_PX, edge_enhance, sharpen
from hypir_core.streaming import restore_stream

BOTH = pytest.mark.parametrize("touch", [sharpen, edge_enhance])


def luma(image: torch.Tensor) -> torch.Tensor:
    weights = torch.tensor(LUMA if image.shape[1] == 3 else (1.0,)).reshape(1, -1, 1, 1)
    return (image * weights).sum(1, keepdim=True)


def noise(h: int, w: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, channels, h, w, generator=torch.Generator().manual_seed(seed))


def edge(width: int = 24) -> torch.Tensor:
    """A soft edge from dark to light, one of its sides noisy."""
    ramp = torch.sigmoid((torch.arange(width) - width / 2) / 1.0) * 0.8 + 0.1
    return ramp.expand(1, 3, 20, width).clone()


@BOTH
def test_strength_zero_is_the_picture_itself(touch):
    image = noise(9, 7)
    assert touch(image, 0.0) is image
    assert edges_enhanced(image, 0.0) is image


@BOTH
@given(
    st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]), st.floats(0.01, 1), st.integers(0, 99)
)
@settings(max_examples=25, deadline=None)
def test_light_stays_between_its_neighbours(touch, h, w, channels, strength, seed):
    image = noise(h, w, channels, seed)
    done = touch(image, strength)
    assert done.shape == image.shape
    assert 0 <= done.min() <= done.max() <= 1
    around = F.pad(luma(image), (1, 1, 1, 1), mode="replicate")
    assert (luma(done) <= F.max_pool2d(around, 3, 1) + 1e-6).all()
    assert (luma(done) >= -F.max_pool2d(-around, 3, 1) - 1e-6).all()


@BOTH
def test_an_edge_gets_steeper_and_a_flat_picture_stays(touch):
    image = edge()
    before, after = (x[0, 0, 10].diff().max() for x in (image, touch(image, 1.0)))
    assert after > 1.15 * before
    flat = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(touch(flat, 1.0), flat)


@BOTH
def test_only_the_light_changes(touch):
    image = 0.3 + 0.4 * noise(12, 12)
    change = touch(image, 0.5) - image
    torch.testing.assert_close(change, change[:, :1].expand(-1, 3, -1, -1), atol=1e-6, rtol=0)
    assert change.abs().max() > 0.01


def test_faint_noise_is_sharpened_but_is_no_edge():
    faint = 0.5 + 0.01 * noise(40, 40, 1)
    spread = [x.std() for x in (faint, edge_enhance(faint, 1.0), sharpen(faint, 1.0))]
    assert spread[1] < 1.05 * spread[0]
    assert spread[2] > 1.2 * spread[0]


def test_more_strength_is_more():
    image = edge()
    changes = [(sharpen(image, s) - image).abs().sum() for s in (0.1, 0.5, 1.0)]
    assert changes == sorted(changes)
    assert changes[0] > 0


def test_blocks_cannot_be_seen_and_the_input_is_left_alone(monkeypatch):
    monkeypatch.setattr("hypir_core.finishing.BLOCK_PX", 17)
    image = noise(40, 51)
    kept, ticks = image.clone(), []
    whole = sharpen(image, 0.7)
    done = sharpen_(image.clone(), 0.7, progress=ticks.append)
    assert torch.equal(done, whole)
    assert torch.equal(edges_enhanced(image, 0.7), edge_enhance(image, 0.7))
    assert torch.equal(image, kept)
    assert [tick.done for tick in ticks] == list(range(1, 10))
    with pytest.raises(Cancelled):
        sharpen_(image, 0.7, should_stop=lambda: True)


@BOTH
def test_no_pixel_looks_further_than_it_says(touch):
    image = noise(15, 15).requires_grad_()
    touch(image, 0.5)[0, :, 7, 7].sum().backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0).nonzero()
    assert (seen - 7).abs().max() <= REACH_PX


def test_bad_input():
    with pytest.raises(ShapeError, match="grey or RGB"):
        sharpen(torch.rand(1, 4, 5, 5), 0.5)
    with pytest.raises(RangeError, match=r"from 0 .off. to 1, got 2"):
        sharpen(noise(5, 5), 2.0)
    with pytest.raises(ConfigError, match=r"sharpen must be from 0 to 1, got 1\.5"):
        Request(sharpen=1.5)


@pytest.fixture(scope="module")
def engine():
    return load_engine("built-in", device=torch.device("cpu"), dtype="float32")


def test_the_walk_enhances_before_and_sharpens_after(engine):
    image = F.interpolate(noise(8, 8), (48, 40), mode="bicubic").clamp(0, 1)
    plain = Request(target=TargetSize(scale=2))
    ticks = []
    after = restore(engine, image, replace(plain, sharpen=0.5), Runtime(progress=ticks.append))
    untouched = restore(engine, image, plain, Runtime()).image_01
    torch.testing.assert_close(after.image_01, sharpen(untouched, 0.5))
    assert [t.whole for t in ticks] == sorted(t.whole for t in ticks)
    assert ticks[-1].stage == "sharpen"
    assert ticks[-1].whole == pytest.approx(1)
    report = json.loads(after.report.to_json())
    assert (report["edge_enhance"], report["sharpen"]) == (0.0, 0.5)

    before = restore(engine, image, replace(plain, edge_enhance=0.8, color_fix=ColorFix.none), Runtime())
    by_hand = restore(
        engine, edge_enhance(image, 0.8), replace(plain, color_fix=ColorFix.none), Runtime()
    ).image_01
    torch.testing.assert_close(before.image_01, by_hand)
    half = restore(engine, image, replace(plain, edge_enhance=0.8, sharpen=1.0, strength=0.0), Runtime())
    torch.testing.assert_close(
        half.image_01, restore(engine, image, replace(plain, strength=0.0), Runtime()).image_01
    )


def test_an_alpha_channel_is_neither_enhanced_nor_sharpened(engine):
    image, alpha = noise(12, 12), edge(12)[:, :1, :12]
    plain, touched = (
        restore(engine, image, request, Runtime(), alpha_01=alpha).alpha_01
        for request in (Request(), Request(edge_enhance=1.0, sharpen=1.0))
    )
    assert plain is not None
    assert touched is not None
    assert torch.equal(plain, touched)


def test_a_stream_does_the_same(engine):
    array = (noise(140, 60)[0].permute(1, 2, 0) * 255).byte().numpy()
    request = Request(
        target=TargetSize(scale=2),
        tile=TileWish(tile_px=128, overlap_px=64),
        edge_enhance=0.6,
        sharpen=0.4,
        strength=0.9,
        color_fix=ColorFix.wavelet,
    )
    rows = []

    class Rows:
        def write(self, start_row, given):
            del start_row
            rows.append(given.clone())

    sink: Any = Rows()
    restore_stream(engine, ArraySource(array), sink, request, Runtime())
    whole = restore(engine, torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255, request, Runtime())
    torch.testing.assert_close(torch.cat(rows, 2), whole.image_01, atol=1e-4, rtol=0)


def test_what_has_no_luma_is_refused_before_the_run(engine):
    with pytest.raises(ConfigError) as err:
        check_luma(edge_enhance=(0.5, 4), sharpen=(0.1, 13))
    assert err.value.problems[0] == "edge_enhance needs grey or RGB, got 4 channels; leave it out"
    assert len(err.value.problems) == 2
    check_luma(edge_enhance=(0.0, 4), sharpen=(0.1, 3))
    many = SimpleNamespace(spec=replace(engine.spec, out_channels=13, color_fix=ColorFix.none))
    with pytest.raises(ConfigError, match="sharpen needs grey or RGB, got 13"):
        restore(many, noise(4, 4), Request(sharpen=0.5), Runtime())  # type: ignore[arg-type]  # only its spec is read
