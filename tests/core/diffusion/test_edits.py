"""Edits of the clean estimate: order, shape, and the low band of a reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.diffusion.edits.base import apply_edits
from hypir_core.diffusion.edits.low_band import LowBand, low_band
from hypir_core.diffusion.samplers.base import Step
from hypir_core.errors import ConfigError, ShapeError

STEP = Step(index=0, of=2, t=999, a_bar=0.1, a_bar_next=0.5)

shapes = st.lists(st.integers(1, 13), min_size=1, max_size=3).map(lambda sizes: (2, 3, *sizes))


def test_edits_follow_each_other_in_order(rng):
    x0 = torch.randn(1, 2, 3, 4, generator=rng)
    seen = []

    def double(x0, step):
        seen.append(step)
        return x0 * 2

    assert torch.equal(apply_edits(x0, STEP, [double, lambda x0, _step: x0 + 1]), x0 * 2 + 1)
    assert torch.equal(apply_edits(x0, STEP, [lambda x0, _step: x0 + 1, double]), (x0 + 1) * 2)
    assert seen == [STEP, STEP]
    assert apply_edits(x0, STEP, []) is x0


def test_an_edit_that_changes_the_shape_is_refused():
    with pytest.raises(
        ShapeError, match=r"LowBandOfOneRow must keep the shape \[1, 1, 4, 4\], got \[1, 1, 1, 4\]"
    ):
        apply_edits(torch.zeros(1, 1, 4, 4), STEP, [LowBandOfOneRow()])


class LowBandOfOneRow:
    def __call__(self, x0, step):
        return x0[:, :, :1]


@given(shape=shapes, factor=st.integers(1, 9), seed=st.integers(0, 99))
@settings(deadline=None)
def test_low_band_is_linear_keeps_constants_and_the_shape(shape, factor, seed):
    generator = torch.Generator().manual_seed(seed)
    one, two = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    low = low_band(one, factor)
    assert low.shape == one.shape
    torch.testing.assert_close(
        low_band(2 * one - 3 * two, factor), 2 * low - 3 * low_band(two, factor), rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(low_band(torch.full_like(one, 0.3), factor), torch.full_like(one, 0.3))
    if factor == 1:
        torch.testing.assert_close(low, one)


def test_low_band_known_numbers():
    """Means 1 and 5 of two cells each; between their centres (½ and 2½) a straight line, constant outside."""
    row = torch.tensor([[[0.0, 2.0, 4.0, 6.0]]], dtype=torch.float64)
    torch.testing.assert_close(low_band(row, 2), torch.tensor([[[1.0, 2.0, 4.0, 5.0]]], dtype=torch.float64))


def test_low_band_holds_no_high_frequency(rng):
    """A chequerboard has no mean: nothing of it stays. A slow wave stays nearly whole."""
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    assert low_band(board[None, None], 4).abs().max() == 0
    wave = torch.cos((torch.arange(64) + 0.5) * torch.pi / 32).expand(1, 1, 64, 64)
    assert (low_band(wave, 4) - wave).abs().max() < 0.05


@given(shape=shapes, factor=st.integers(1, 9), weight=st.floats(0, 1), seed=st.integers(0, 99))
@settings(deadline=None)
def test_the_edit_moves_the_low_band_by_the_weight(shape, factor, weight, seed):
    generator = torch.Generator().manual_seed(seed)
    x0, reference = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    before = x0.clone()
    edited = LowBand(reference=reference, factor=factor, weight=weight)(x0, STEP)
    wanted = x0 - weight * low_band(x0, factor) + weight * low_band(reference, factor)
    torch.testing.assert_close(edited, wanted, rtol=1e-10, atol=1e-10)
    assert torch.equal(x0, before)
    assert torch.equal(LowBand(reference=x0, factor=factor, weight=weight)(x0, STEP), x0)
    shifted = LowBand(reference=x0 + 2, factor=factor, weight=weight)(x0, STEP)
    torch.testing.assert_close(shifted, x0 + 2 * weight, rtol=1e-10, atol=1e-10)


def test_one_reference_serves_many_images_and_channels(rng):
    x0 = torch.randn(3, 2, 6, 5, generator=rng)
    for shape in ((1, 2, 6, 5), (3, 1, 6, 5), (1, 1, 6, 5)):
        reference = torch.randn(shape, generator=rng)
        together = LowBand(reference=reference, factor=2, weight=0.5)(x0, STEP)
        alone = LowBand(reference=reference.expand_as(x0), factor=2, weight=0.5)(x0, STEP)
        assert torch.equal(together, alone)


def test_half_formats_come_out_in_float32(rng):
    x0, reference = torch.randn(2, 1, 2, 6, 5, generator=rng).bfloat16()
    edited = LowBand(reference=reference, factor=2, weight=0.5)(x0, STEP)
    assert torch.equal(edited, LowBand(reference=reference.float(), factor=2, weight=0.5)(x0.float(), STEP))


@pytest.mark.parametrize("shape", [(1, 1, 6), (1, 1, 6, 4), (1, 3, 6, 5), (2, 1, 6, 5), (1, 1, 1, 1)])
def test_a_reference_that_does_not_fit_is_refused(shape):
    with pytest.raises(ShapeError, match=r"\[1, 1, 6, 5\], got"):
        LowBand(reference=torch.zeros(shape), factor=2, weight=0.5)(torch.zeros(1, 1, 6, 5), STEP)


def test_a_canvas_without_spatial_axes_is_refused():
    with pytest.raises(ShapeError, match="one to three spatial axes"):
        low_band(torch.zeros(1, 2), 2)


@pytest.mark.parametrize(("factor", "weight"), [(0, 0.5), (2, -0.1), (2, 1.1), (2, float("nan"))])
def test_an_impossible_low_band_is_refused(factor, weight):
    with pytest.raises(ConfigError, match="factor of 1 or more and a weight in 0 … 1"):
        LowBand(reference=torch.zeros(1, 1, 2), factor=factor, weight=weight)
