"""The noise schedule against diffusers and against closed forms."""

from __future__ import annotations

import json

import pytest
import torch

from hypir_core.diffusion.schedule import (
    BetaKind,
    NoiseSchedule,
    a_bar_at,
    a_bars,
    read_schedule,
    schedule_from_config,
)
from hypir_core.errors import ConfigError, WeightsError
from hypir_core.weights.spec import Prediction


def test_the_base_models_own_config_gives_the_known_constant(golden):
    schedule, prediction = read_schedule(golden / "hypir" / "model" / "scheduler" / "scheduler_config.json")
    assert schedule == NoiseSchedule()
    assert prediction is Prediction.eps
    a_bar = a_bar_at(schedule, 200)
    assert a_bar == pytest.approx(0.7536917, abs=5e-7)
    assert a_bar**-0.5 == pytest.approx(1.151869, abs=1e-6)
    assert ((1 - a_bar) / a_bar) ** 0.5 == pytest.approx(0.571666, abs=1e-6)


@pytest.mark.parametrize(
    ("timestep", "known"), [(100, 0.8942232), (120, 0.8686836), (250, 0.6737923), (300, 0.5905008)]
)
def test_known_values(timestep, known):
    assert a_bar_at(NoiseSchedule(), timestep) == pytest.approx(known, abs=5e-7)


@pytest.mark.parametrize("kind", list(BetaKind))
def test_every_kind_equals_diffusers(kind):
    from diffusers import DDPMScheduler

    ours = NoiseSchedule(steps=400, beta_start=0.0002, beta_end=0.015, kind=kind)
    theirs = DDPMScheduler(400, beta_start=0.0002, beta_end=0.015, beta_schedule=kind.value).alphas_cumprod
    torch.testing.assert_close(a_bars(ours), theirs, rtol=2e-6, atol=1e-6)


def test_a_bar_falls_from_nearly_one():
    curve = a_bars(NoiseSchedule())
    assert curve.dtype == torch.float32
    assert curve[0] == pytest.approx(1 - 0.00085)
    assert (curve.diff() < 0).all()


@pytest.mark.parametrize("timestep", [-1, 1000])
def test_a_timestep_outside_is_refused(timestep):
    with pytest.raises(ConfigError, match="0 … 999"):
        a_bar_at(NoiseSchedule(), timestep)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("beta_schedule", "squaredcos_cap_v2"),
        ("prediction_type", "sample"),
        ("trained_betas", [0.1]),
        ("rescale_betas_zero_snr", True),
    ],
)
def test_a_schedule_of_another_family_is_refused(golden, key, value):
    file = golden / "hypir" / "model" / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text()) | {key: value}
    with pytest.raises(WeightsError, match=f"{key}.*2.1-base"):
        schedule_from_config(config, where="here")


def test_v_prediction_is_read(golden):
    assert schedule_from_config({"prediction_type": "v_prediction"}, where="here")[1] is Prediction.v


def test_damaged_json_is_refused(tmp_path):
    (tmp_path / "scheduler_config.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot read it"):
        read_schedule(tmp_path / "scheduler_config.json")


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"beta_start": 0.0}, {"beta_end": 0.0001}])
def test_an_impossible_schedule_is_refused(wrong):
    with pytest.raises(ConfigError, match="beta_start ≤ beta_end"):
        NoiseSchedule(**wrong)
