from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypir_core.errors import ConfigError
from train.ramps import Ramp, RampShape, ramp_factor


@pytest.mark.parametrize(
    ("shape", "quarter", "half"),
    [(RampShape.linear, 0.25, 0.5), (RampShape.cosine, 0.5 - math.sqrt(0.5) / 2, 0.5)],
)
def test_values_along_the_ramp(shape, quarter, half):
    ramp = Ramp(shape=shape, start=100, length=40)
    got = [ramp_factor(ramp, step) for step in (0, 99, 100, 110, 120, 140, 10_000)]
    assert got == pytest.approx([0, 0, 0, quarter, half, 1, 1])


def test_constant_is_a_switch():
    assert [ramp_factor(Ramp(start=3), step) for step in (0, 2, 3, 4)] == [0, 0, 1, 1]


@given(st.sampled_from(RampShape), st.integers(0, 50), st.integers(0, 50), st.integers(0, 200))
def test_never_falls_and_stays_in_range(shape, start, length, step):
    ramp = Ramp(shape=shape, start=start, length=0 if shape is RampShape.constant else length)
    assert 0 <= ramp_factor(ramp, step) <= ramp_factor(ramp, step + 1) <= 1


def test_bad_ramps_list_every_problem():
    with pytest.raises(ConfigError) as caught:
        Ramp(start=-1, length=5)
    assert len(caught.value.problems) == 2
