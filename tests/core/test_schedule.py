"""The noise schedule against diffusers and against closed forms."""

from __future__ import annotations

import json
import math

import pytest
import torch

from hypir_core.diffusion.schedule import (
    BetaKind,
    NoiseSchedule,
    a_bar_at,
    a_bars,
    a_bars64,
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


DIFFUSERS_NAMES = {BetaKind.cosine: "squaredcos_cap_v2"}


@pytest.mark.parametrize("kind", list(BetaKind))
def test_every_kind_equals_diffusers(kind):
    from diffusers import DDPMScheduler

    name = DIFFUSERS_NAMES.get(kind, kind.value)
    ours = NoiseSchedule(steps=400, beta_start=0.0002, beta_end=0.015, kind=kind)
    theirs = DDPMScheduler(400, beta_start=0.0002, beta_end=0.015, beta_schedule=name)
    torch.testing.assert_close(a_bars(ours), theirs.alphas_cumprod, rtol=2e-6, atol=1e-6)
    assert schedule_from_config(theirs.config, where="here")[0] == ours


def test_trained_betas_equal_diffusers():
    from diffusers import DDPMScheduler

    betas = [0.001, 0.3, 0.02, 0.5]
    theirs = DDPMScheduler(4, trained_betas=betas)
    ours, _ = schedule_from_config(theirs.config, where="here")
    assert ours.trained_betas == tuple(betas)
    torch.testing.assert_close(a_bars(ours), theirs.alphas_cumprod)
    without_count = {"trained_betas": betas}
    assert schedule_from_config(without_count, where="here")[0].steps == 4


def test_cosine_follows_its_curve_up_to_the_limit():
    """ā_t = f(t + 1)/f(0) as long as no β meets the limit, which only the last one does."""
    curve = a_bars64(NoiseSchedule(steps=50, kind=BetaKind.cosine))
    wanted = [math.cos((t / 50 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(51)]
    assert curve[:-1].tolist() == pytest.approx([f / wanted[0] for f in wanted[1:-1]], rel=1e-12)
    assert float(curve[-1] / curve[-2]) == pytest.approx(0.001, rel=1e-12)


@pytest.mark.parametrize("kind", list(BetaKind))
def test_float32_is_the_rounded_float64(kind):
    schedule = NoiseSchedule(kind=kind)
    exact = a_bars64(schedule)
    assert exact.dtype == torch.float64
    assert torch.equal(a_bars(schedule), exact.float())
    assert (exact > 0).all()
    assert exact[0] < 1
    assert (exact.diff() < 0).all()


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
        ("beta_schedule", "sigmoid"),
        ("prediction_type", "flow_prediction"),
        ("rescale_betas_zero_snr", True),
    ],
)
def test_a_schedule_of_another_family_is_refused(golden, key, value):
    file = golden / "hypir" / "model" / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text()) | {key: value}
    with pytest.raises(WeightsError, match=f"{key}.*2.1-base"):
        schedule_from_config(config, where="here")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("epsilon", Prediction.eps), ("v_prediction", Prediction.v), ("sample", Prediction.x0)],
)
def test_every_prediction_is_read(name, kind):
    assert schedule_from_config({"prediction_type": name}, where="here")[1] is kind


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"trained_betas": [0.1, 0.2]}, "one beta for each of the 1000"),
        ({"trained_betas": [0.1] * 999 + [1.0]}, "got 1.0 at timestep 999"),
        ({"trained_betas": 0.5, "num_train_timesteps": 1}, "not iterable"),
        ({"beta_start": 0}, "beta_start ≤ beta_end"),
        ({"beta_end": "much"}, "much"),
        ({"num_train_timesteps": None}, "int"),
    ],
)
def test_impossible_numbers_in_a_file_name_the_file(changes, says):
    config = {"num_train_timesteps": 1000} | changes
    with pytest.raises(WeightsError, match=rf"^config\.json: .*(?:{says}).*get the file again"):
        schedule_from_config(config, where="config.json")


@pytest.mark.parametrize("text", ["{", "[1, 2]", "null", '"linear"'])
def test_damaged_json_is_refused(tmp_path, text):
    (tmp_path / "scheduler_config.json").write_text(text)
    with pytest.raises(WeightsError, match="cannot read it"):
        read_schedule(tmp_path / "scheduler_config.json")


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"beta_start": 0.0}, {"beta_end": 0.0001}])
def test_an_impossible_schedule_is_refused(wrong):
    with pytest.raises(ConfigError, match="beta_start ≤ beta_end"):
        NoiseSchedule(**wrong)


@pytest.mark.parametrize(
    ("betas", "says"),
    [((0.1, 0.2), "each of the 3"), ((0.1, 0.0, 0.2), "got 0.0 at timestep 1"), ((), "each of the 3")],
)
def test_impossible_betas_are_refused(betas, says):
    with pytest.raises(ConfigError, match=says):
        NoiseSchedule(steps=3, trained_betas=betas)


def test_a_kind_may_be_named_by_its_value_and_an_unknown_one_is_refused():
    assert NoiseSchedule(kind="cosine") == NoiseSchedule(kind=BetaKind.cosine)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sigmoid"):
        NoiseSchedule(kind="sigmoid")  # type: ignore[arg-type]


def test_betas_given_as_a_list_are_kept_as_a_tuple():
    schedule = NoiseSchedule(steps=2, trained_betas=[0.1, 0.2])  # type: ignore[arg-type]
    assert schedule.trained_betas == (0.1, 0.2)
    assert hash(schedule) == hash(NoiseSchedule(steps=2, trained_betas=(0.1, 0.2)))
