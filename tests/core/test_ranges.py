"""Ranges: file values to network values and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.errors import ConfigError, ShapeError
from hypir_core.image.histogram import SAMPLE_VALUES, Statistics
from hypir_core.image.ranges import PM1, UNIT, Range, RangeConfig, RangeKind, fit

ULP = torch.finfo(torch.float32).eps
KINDS = [kind for kind in RangeKind if kind.value not in {"histogram", "custom"}]  # which are no lines
FITTED = [kind for kind in KINDS if kind.fitted and kind is not RangeKind.moments]


def config_of(kind: RangeKind, **changes: Any) -> RangeConfig:
    return RangeConfig(
        kind=kind,
        white=4095.0 if kind is RangeKind.white else None,
        window=(40.0, 400.0) if kind is RangeKind.window else None,
        reference=((0.4, 0.2),) if kind is RangeKind.moments else None,
        **changes,
    )


def statistics(*blocks: torch.Tensor) -> Statistics:
    found = Statistics()
    for block in blocks:
        found.add(block)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_undo_gives_back_what_apply_was_given_within_one_ulp(kind):
    """10 000 random ranges in all, 50 values each: any offset, any width, with one axis to four."""
    rng = torch.Generator().manual_seed(list(RangeKind).index(kind))
    for case in range(10_000 // len(KINDS) + 1):
        channels, axes = 1 + case % 4, 1 + case % 4
        exponents = torch.rand(2, generator=rng) * 16 - 8
        spread, pedestal = (10.0**e for e in exponents.tolist())
        shape = (1, channels, *[1] * (axes - 1), 50)
        x = torch.randn(shape, generator=rng) * spread + pedestal * (case % 3 - 1)
        if not kind.fitted:
            x = torch.rand(shape, generator=rng) * (4095 if kind is RangeKind.white else 1)
        config = config_of(kind, symmetric=case % 5 == 0, per_channel=case % 7 != 0)
        found = fit(config, statistics(x))
        there = found.apply(x)
        back = found.undo(there)
        assert found.lossless
        assert (there.dtype, back.dtype, back.shape) == (torch.float32, torch.float32, x.shape)
        middle = torch.tensor(found.middle, dtype=torch.float64).view(-1, *[1] * axes)
        largest = torch.maximum(torch.maximum(x.abs(), middle.abs()), (x - middle).abs())
        assert bool(((back.double() - x.double()).abs() <= ULP * largest).all()), (case, found)


@pytest.mark.parametrize("kind", FITTED)
def test_what_a_fitted_range_promises(kind):
    x = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1, 30, 900.0]
    ).view(3, 1, 1)
    for symmetric in (False, True):
        y = fit(config_of(kind, symmetric=symmetric), statistics(x)).apply(x)[0].flatten(1).double()
        if kind is RangeKind.zscore:
            assert y.mean(1).abs().max() < 1e-6
            assert (y.std(1, correction=0) - 1).abs().max() < 1e-6
            continue
        percents = (0, 100) if kind is RangeKind.minmax else (0.1, 99.9)
        ends = torch.from_numpy(np.percentile(y.numpy(), percents, axis=1))
        assert torch.allclose(ends[0], torch.full((3,), -1.0 if symmetric else 0.0).double(), atol=1e-6)
        assert torch.allclose(ends[1], torch.ones(3).double(), atol=1e-6)


def test_one_for_all_channels_is_one():
    x = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 8.0)])[None]
    found = fit(config_of(RangeKind.minmax, per_channel=False), statistics(x))
    assert (found.middle, found.width) == ((0.0,), (8.0,))
    assert found.apply(torch.full((1, 5, 2), 4.0)).unique().tolist() == [0.5]


def test_unit_does_nothing_at_all():
    x = torch.rand(1, 3, 4, 4)
    assert UNIT.apply(x) is x
    assert UNIT.undo(x) is x


def test_pm1_is_the_formula_to_the_last_bit():
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(PM1.apply(x), x * 2 - 1)
    assert torch.equal(PM1.undo(x), (x + 1) / 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.uint16, torch.int16])
def test_nothing_is_computed_below_float32(dtype):
    assert PM1.apply(torch.ones(1, 1, 2, 2).to(dtype)).dtype == torch.float32
    assert PM1.undo(torch.ones(1, 1, 2, 2).to(dtype)).dtype == torch.float32


def test_large_integers_and_float64_keep_their_digits():
    x = torch.tensor([[[2**31 - 1, 2**31 - 2]]], dtype=torch.int32)
    found = fit(config_of(RangeKind.minmax), statistics(x))
    assert found.apply(x).tolist() == [[[1.0, 0.0]]]
    assert found.undo(found.apply(x)).to(torch.int64).tolist() == x.tolist()


@pytest.mark.parametrize("white", [255.0, 65535.0, 1.0, 1 / 255])
def test_a_white_level_is_one(white):
    found = RangeConfig(kind=RangeKind.white, white=white).fixed
    assert found.apply(torch.tensor([[[0.0, white]]])).tolist() == [[[0.0, 1.0]]]


def test_cutting_is_said_to_lose():
    found = RangeConfig(kind=RangeKind.pm1, clip=True).fixed
    assert not found.lossless
    assert not found.identity
    assert found.apply(torch.tensor([[[-1.0, 0.5, 7.0]]])).tolist() == [[[-1.0, 0.0, 1.0]]]
    percentile = fit(
        config_of(RangeKind.percentile, percents=(25, 75), clip=True),
        statistics(torch.arange(9.0)[None, None]),
    )
    assert percentile.apply(torch.tensor([[[0.0, 4.0, 8.0]]])).tolist() == [[[0.0, 0.5, 1.0]]]


@pytest.mark.parametrize("kind", FITTED)
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_flat_channel_is_left_as_it_is_and_named(kind, symmetric):
    x = torch.rand(1, 3, 8, 8)
    x[:, 1] = 0.25
    found = fit(config_of(kind, symmetric=symmetric), statistics(x))
    assert found.apply(x)[:, 1].unique().tolist() == [0.25]
    assert len(found.notes) == 1
    assert "of channel 2 are all equal" in found.notes[0]
    assert found.undo(found.apply(x)).sub(x).abs().max() < 1e-6


def test_percentiles_without_width_fall_back_to_the_extremes():
    x = torch.zeros(1, 1, 100, 100)
    x[..., 0, 0] = 5.0
    found = fit(config_of(RangeKind.percentile), statistics(x))
    assert (found.middle, found.width) == ((0.0,), (5.0,))
    assert "the least and the greatest value were taken" in found.notes[0]


@pytest.mark.parametrize("kind", FITTED)
def test_nothing_to_fit_on_changes_nothing(kind):
    x = torch.rand(1, 2, 3)
    for found in (fit(config_of(kind), Statistics()), fit(config_of(kind), statistics(x * torch.nan))):
        assert torch.equal(found.apply(x), x)
        assert found.notes


@settings(deadline=None, max_examples=200)
@given(
    kind=st.sampled_from(RangeKind),
    numbers=st.lists(st.tuples(st.floats(-1e30, 1e30), st.floats(1e-30, 1e30)), min_size=1, max_size=5),
    clip=st.none() | st.just((0.0, 1.0)),
)
def test_a_range_survives_json(kind, numbers, clip):
    middle, width = zip(*numbers, strict=True)
    found = Range(kind=kind, middle=middle, width=width, clip=clip, notes=("said",))
    assert Range.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"width": (0.0,)}, "width must be finite and at least"),
        ({"width": (float("nan"),)}, "width must be finite"),
        ({"middle": (float("inf"),)}, "middle must be finite"),
        ({"middle": (1.0, 2.0)}, "got 2 and 1 numbers"),
        ({"clip": (1.0, 0.0)}, "clip must be"),
    ],
)
def test_impossible_ranges_are_refused(bad, said):
    with pytest.raises(ConfigError, match=said):
        Range(**bad)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"kind": RangeKind.white}, "white belongs"),
        ({"white": 255.0}, "white belongs"),
        ({"kind": RangeKind.white, "white": 0.0}, "white must be above 0"),
        ({"percents": (50.0, 50.0)}, "percents must be"),
        ({"kind": RangeKind.histogram, "clip": True}, "no black and white"),
    ],
)
def test_impossible_configs_are_refused(bad, said):
    with pytest.raises(ConfigError, match=said):
        RangeConfig(**bad)
    with pytest.raises(ConfigError, match="must be fitted"):
        _ = RangeConfig(kind=RangeKind.minmax).fixed


def test_another_number_of_channels_is_a_sentence():
    found = fit(config_of(RangeKind.minmax), statistics(torch.rand(1, 3, 5)))
    with pytest.raises(ShapeError, match="is for 3 channels, the picture has 4; fit one for all channels"):
        found.apply(torch.rand(1, 4, 5))
    with pytest.raises(ShapeError, match="blocks of 3 channels, got 2"):
        statistics(torch.rand(1, 3, 5), torch.rand(1, 2, 5))


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(), dtype=st.sampled_from([np.uint8, np.int8, np.uint16, np.int16, np.float32, np.float64])
)
def test_statistics_are_numpys_however_the_picture_is_cut(data, dtype):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = (data.draw(st.integers(1, 2)), 2, data.draw(st.integers(2, 40)), 7)
    values = rng.normal(0, 1, shape) if np.issubdtype(dtype, np.floating) else None
    if values is None:
        limits = np.iinfo(dtype)
        values = rng.integers(limits.min, limits.max, shape, endpoint=True)
    values = values.astype(dtype)
    x = torch.from_numpy(values)
    cut = data.draw(st.integers(1, shape[2] - 1))
    found = statistics(x[:, :, :cut], x[:, :, cut:])
    per_channel = np.moveaxis(values, 1, 0).reshape(2, -1).astype(np.float64)
    for channel, expected in zip(found.channels, per_channel, strict=True):
        assert channel.count == expected.size
        assert (channel.low, channel.high) == (expected.min(), expected.max())
        assert channel.mean == pytest.approx(expected.mean(), rel=1e-12, abs=1e-12)
        assert channel.deviation == pytest.approx(expected.std(), rel=1e-9, abs=1e-12)
    percents = (data.draw(st.floats(0, 49)), data.draw(st.floats(50, 100)))
    fitted = fit(config_of(RangeKind.percentile, percents=percents), found)
    low, high = np.percentile(per_channel, percents, axis=1)
    if (high > low).all():
        assert fitted.middle == pytest.approx(low, rel=1e-12, abs=1e-12)
        assert np.add(fitted.middle, fitted.width) == pytest.approx(high, rel=1e-9, abs=1e-9)


def test_what_is_not_valid_does_not_count():
    x = torch.tensor([[[1.0, 2.0, 3.0, 900.0, float("nan"), float("inf")]]])
    valid = torch.tensor([[[1, 1, 1, 0, 1, 1]]])
    found = Statistics()
    found.add(x, valid)
    (channel,) = found.channels
    assert (channel.count, channel.low, channel.high, channel.mean) == (3, 1.0, 3.0, 2.0)
    with pytest.raises(ShapeError, match="mask that fits"):
        found.add(x, valid[..., :2])


def test_moments_do_not_drown_in_a_pedestal():
    x = torch.randn(1, 1, 100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e9
    found = statistics(*x.split(999, dim=2))
    assert found.channels[0].deviation == pytest.approx(float(x.std(correction=0)), rel=1e-6)


def test_a_sample_is_the_same_every_time_and_near_the_truth():
    x = torch.randn(1, 1, 3 * SAMPLE_VALUES, generator=torch.Generator().manual_seed(1))
    config = config_of(RangeKind.percentile)
    found = [fit(config, statistics(*x.split(rows, dim=2))) for rows in (100_000, 100_000, 64_000)]
    assert found[0] == found[1]
    assert found[0].middle == pytest.approx(found[2].middle, abs=1e-9)
    truth = np.percentile(x.numpy(), (0.1, 99.9))
    assert found[0].middle[0] == pytest.approx(truth[0], abs=0.1)
    assert found[0].middle[0] + found[0].width[0] == pytest.approx(truth[1], abs=0.1)
