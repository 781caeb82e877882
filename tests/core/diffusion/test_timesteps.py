"""Spacing of the timesteps against diffusers and the golden numbers."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.diffusion.timesteps import Spacing, timesteps
from hypir_core.errors import ConfigError


@pytest.mark.parity
def test_they_are_the_golden_ones(golden):
    cases = json.loads((golden / "pkl" / "diffusion.json").read_text())["timesteps"]
    assert len(cases) == 12
    for case in cases:
        assert list(timesteps(case["T"], case["steps"], Spacing(case["spacing"]))) == case["values"], case


@pytest.mark.parametrize("spacing", list(Spacing))
@pytest.mark.parametrize("train_steps", [7, 50, 1000])
def test_every_number_of_steps_equals_diffusers(spacing, train_steps):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(train_steps, timestep_spacing=spacing.value)
    for steps in range(1, train_steps + 1, 1 if train_steps < 1000 else 7):
        scheduler.set_timesteps(steps)
        # numpy's arange gives one element more where rounding puts steps · (T / steps) below T
        assert list(timesteps(train_steps, steps, spacing)) == scheduler.timesteps.tolist()[:steps], steps


def test_the_offset_moves_leading_only():
    assert timesteps(1000, 5, Spacing.leading, offset=1) == (801, 601, 401, 201, 1)
    for spacing in (Spacing.trailing, Spacing.linspace):
        assert timesteps(1000, 5, spacing, offset=1) == timesteps(1000, 5, spacing)


def test_linspace_may_stay_unrounded():
    assert timesteps(1000, 3, Spacing.linspace, whole=False) == (999, 499.5, 0)
    assert timesteps(1000, 3, Spacing.linspace) == (999, 500, 0)


@settings(deadline=None)
@given(train_steps=st.integers(1, 300), data=st.data(), spacing=st.sampled_from(Spacing), whole=st.booleans())
def test_they_fall_inside_the_schedule(train_steps, data, spacing, whole):
    steps = data.draw(st.integers(1, train_steps))
    found = timesteps(train_steps, steps, spacing, whole=whole)
    assert len(found) == steps
    assert all(a > b for a, b in pairwise(found))
    assert found[-1] >= 0
    assert found[0] <= train_steps - 1
    assert whole is False or all(isinstance(t, int) for t in found)


@pytest.mark.parametrize("steps", [0, 1001, -3])
def test_an_impossible_number_of_steps_is_refused(steps):
    with pytest.raises(ConfigError, match="1 … 1000"):
        timesteps(1000, steps, Spacing.trailing)


@pytest.mark.parametrize("offset", [1, -1])
def test_an_offset_out_of_the_schedule_is_refused(offset):
    with pytest.raises(ConfigError, match="give offset 0"):
        timesteps(10, 10, Spacing.leading, offset=offset)
