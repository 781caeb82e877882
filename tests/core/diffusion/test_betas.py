"""Noise schedules by name, against the closed-form numbers."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from hypir_core.diffusion.betas import BaseScheduler
from hypir_core.diffusion.catalog import SCHEDULERS
from hypir_core.errors import ConfigError


@pytest.fixture(scope="module")
def curves(golden):
    return json.loads((golden / "pkl" / "curves.json").read_text())


def test_closed_forms(golden, curves):
    tensors = load_file(golden / "pkl" / "curves.safetensors")
    for case in curves["schedules"]:
        steps, params = case["num_timesteps"], case["params"]
        made = SCHEDULERS.create(case["name"], num_timesteps=steps, **params).get_schedule_dict()
        for key in ("betas", "alphas_cumprod"):
            theirs = tensors[f"schedule.{case['index']}.{key}"]
            torch.testing.assert_close(
                made[key][case["at"]], theirs, rtol=1e-12, atol=1e-12, msg=f"{case} {key}"
            )
        variance = torch.tensor(case["posterior_variance_ends"], dtype=torch.float64)
        torch.testing.assert_close(made["posterior_variance"][case["ends"]], variance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_every_schedule_is_one(name):
    """T finite β in (0, 1), a picture at the start and nearly none at the end, the same β each time."""
    for steps in (1000,) if name == "learned" else (1000, 300):
        schedule = SCHEDULERS.create(name, num_timesteps=steps)
        betas = schedule.get_betas()
        assert betas.shape == (steps,)
        assert betas.dtype == torch.float64
        a_bar = (1 - betas).cumprod(0)
        assert ((betas > 0) & (betas < 1)).all()
        assert (a_bar.diff() < 0).all()
        assert a_bar[0] > 0.99
        assert torch.equal(betas, SCHEDULERS.create(name, num_timesteps=steps).get_betas())
        assert torch.equal(torch.tensor(schedule.as_schedule().trained_betas, dtype=torch.float64), betas)
        if steps == 1000 and name not in {"adaptive", "hierarchical_linear"}:
            assert a_bar[-1] < 0.03, "the last timestep is no noise"


def test_the_names_of_the_original(curves):
    for name, facts in curves["registry"]["schedulers"].items():
        made = SCHEDULERS.create(name)
        for key, value in facts["config"].items():
            assert getattr(made, key) == value, (name, key)
        for alias in facts["aliases"]:
            assert SCHEDULERS.entry(alias).name == name


def test_adaptive(curves):
    case = curves["adaptive"]
    for slope in ("rising", "falling", "flat"):
        schedule = SCHEDULERS.create("adaptive", num_timesteps=200)
        schedule.update(case[f"{slope}_losses"])
        after = schedule.get_betas()[case["at"]]
        torch.testing.assert_close(
            after, torch.tensor(case[f"after_{slope}"], dtype=torch.float64), rtol=1e-9, atol=1e-12
        )


def test_consistency_levels(curves):
    levels = SCHEDULERS.create("consistency").sigmas()
    theirs = torch.tensor(curves["consistency_sigmas"]["values"], dtype=torch.float64)
    torch.testing.assert_close(levels, theirs, rtol=1e-9, atol=0)


def test_a_learned_schedule_learns():
    schedule = SCHEDULERS.create("learned", num_timesteps=200)
    cosine = SCHEDULERS.create("cosine", num_timesteps=200).get_schedule_dict()["alphas_cumprod"]
    assert (schedule.get_schedule_dict()["alphas_cumprod"] - cosine).abs().max() < 0.05
    schedule.betas().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in schedule.network.parameters())


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("linear", {"num_timesteps": 0}, "whole number of 1 or more, got 0"),
        ("linear", {"num_timesteps": 10.0}, "whole number of 1 or more, got 10.0"),
        ("linear", {"beta_start": 0.5}, "0 < beta_start ≤ beta_end < 1, got 0.5 to 0.02"),
        ("cosine", {"sigma": 3}, "scheduler 'cosine': takes no sigma"),
        ("warmup", {"warmup_steps": 2000}, "warmup_steps must lie in 1 … 1000"),
        ("interpolated", {"key_points": {0.0: 0.0}}, "betas between 0 and 1, got 0.0: 0.0"),
        ("hierarchical_linear", {"level": 4}, "got 4 of 4"),
        ("resolution_aware", {"resolution_scaling": "cubic"}, "linear, sqrt or log"),
        ("pndm", {"skip_prk_steps": False}, "skip_prk_steps must be true"),
    ],
)
def test_bad_settings(name, config, said):
    with pytest.raises(ConfigError, match=said):
        SCHEDULERS.create(name, config)


def test_a_schedule_of_ones_own():
    class Half(BaseScheduler):
        def get_betas(self):
            return torch.full((self.num_timesteps,), 0.5)

    assert Half(3).get_schedule_dict()["alphas_cumprod"].tolist() == [0.5, 0.25, 0.125]
    with pytest.raises(TypeError):
        BaseScheduler(3)
