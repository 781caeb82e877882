"""LMS and PNDM against closed forms and diffusers; the extra choices of timesteps."""

from __future__ import annotations

import json

import pytest
import torch

from hypir_core.diffusion.prediction import predict_eps
from hypir_core.diffusion.samplers.base import plan_steps, remembered
from hypir_core.diffusion.samplers.dpmpp_2m import DPMpp2M
from hypir_core.diffusion.samplers.lms import LMS, lms_coefficients
from hypir_core.diffusion.samplers.pndm import ADAMS_BASHFORTH, PNDM
from hypir_core.diffusion.schedule import BetaKind, NoiseSchedule, a_bars64
from hypir_core.diffusion.timesteps import (
    Spacing,
    karras_sigmas,
    karras_timesteps,
    strided_timesteps,
    timesteps,
)
from hypir_core.errors import ConfigError
from hypir_core.weights.spec import Prediction
from tests.core.diffusion.runs import diffusers_in_double, toy_denoiser, toy_network, walk

NAMES = {Prediction.eps: "epsilon", Prediction.v: "v_prediction", Prediction.x0: "sample"}


@pytest.fixture(scope="module")
def curves(golden):
    return json.loads((golden / "pkl" / "curves.json").read_text())


def test_coefficients(curves):
    sigmas = curves["lms"]["sigmas"]
    for case in curves["lms"]["coefficients"]:
        step = case["step"]
        past = sigmas[max(0, step + 1 - case["order"]) : step + 1][::-1]
        assert lms_coefficients(past, sigmas[step + 1]) == pytest.approx(case["values"], rel=1e-9)
    for order, weights in curves["plms_weights_newest_first"].items():
        assert ADAMS_BASHFORTH[int(order) - 1] == pytest.approx(weights, abs=1e-15)


def test_timesteps(curves):
    for case in curves["timesteps"]:
        if case["spacing"] == "seed":
            assert list(strided_timesteps(case["T"], case["steps"])) == case["values"]
        else:
            assert list(timesteps(case["T"], case["steps"], Spacing(case["spacing"]))) == case["values"]
    for case in curves["karras"]:
        made = karras_sigmas(
            case["steps"], sigma_min=case["sigma_min"], sigma_max=case["sigma_max"], rho=case["rho"]
        )
        assert made == pytest.approx(case["values"], rel=1e-9)
    with pytest.raises(ConfigError, match="got 30 steps"):
        karras_sigmas(30, sigma_min=2, sigma_max=1)
    with pytest.raises(ConfigError, match="steps must lie in 1 … 10"):
        strided_timesteps(10, 11)


def test_karras_timesteps_have_karras_levels_and_a_run_ends_clean(rng):
    """On the cosine, 25 steps: diffusers 0.42.1 dies there."""
    curve = a_bars64(NoiseSchedule(kind=BetaKind.cosine))
    visited = karras_timesteps(curve, 25)
    plan = plan_steps(curve, visited)
    sigmas = [((1 - step.a_bar) / step.a_bar) ** 0.5 for step in plan]
    lowest = float(((1 - curve[0]) / curve[0]).sqrt())
    assert sigmas == pytest.approx(karras_sigmas(25, sigma_min=lowest, sigma_max=80), rel=1e-9)
    x0 = torch.rand(1, 1, 4, 4, generator=rng)
    end = walk(torch.randn(1, 1, 4, 4, generator=rng), lambda _x, _step: x0, plan, DPMpp2M())
    assert torch.equal(end, x0)


@pytest.mark.parametrize("beta", [BetaKind.scaled_linear, BetaKind.cosine])
@pytest.mark.parametrize("kind", list(NAMES))
@pytest.mark.parametrize("spacing", list(Spacing))
def test_lms_equals_diffusers(rng, kind, spacing, beta):
    curve = a_bars64(NoiseSchedule(kind=beta))
    name = {BetaKind.cosine: "squaredcos_cap_v2"}.get(beta, beta.value)
    for count in (7,):
        x = torch.randn(2, 3, 4, 5, generator=rng, dtype=torch.float64)
        plan = plan_steps(curve, timesteps(1000, count, spacing, whole=False))
        ours = walk(x, toy_denoiser(kind), plan, LMS(lower_order_final=False))
        with diffusers_in_double("lms_discrete") as module:
            scheduler = module.LMSDiscreteScheduler(
                1000,
                beta_start=NoiseSchedule().beta_start,
                beta_end=NoiseSchedule().beta_end,
                beta_schedule=name,
                prediction_type=NAMES[kind],
                timestep_spacing=spacing.value,
            )
            scheduler.set_timesteps(count)
            theirs = x * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
            for t in scheduler.timesteps:
                output = toy_network(scheduler.scale_model_input(theirs, t), float(t))
                theirs = scheduler.step(output, t, theirs).prev_sample
        # its coefficients come from a quadrature in steps
        size = max(1.0, theirs.abs().max().item())
        assert (ours - theirs).abs().max().item() <= 1e-8 * size, f"{count} steps"


@pytest.mark.parametrize("past", [1, 2, 3])
@pytest.mark.parametrize("kind", [Prediction.eps, Prediction.v])
def test_a_step_of_pndm_equals_diffusers(rng, past, kind):
    """Step by step, with the same past: its start takes a second call of the network, ours does not."""
    curve = a_bars64(NoiseSchedule())
    plan = plan_steps(curve, timesteps(1000, 10, Spacing.leading), a_bar_last=float(curve[0]) + 1e-9)
    step = plan[past]
    x, output, *noises = torch.randn(2 + past, 1, 2, 4, 5, generator=rng, dtype=torch.float64)
    with diffusers_in_double("pndm") as module:
        scheduler = module.PNDMScheduler(
            1000,
            beta_start=NoiseSchedule().beta_start,
            beta_end=NoiseSchedule().beta_end,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
        )
        scheduler.set_timesteps(10)
        scheduler.counter = past + 1
        scheduler.ets = list(reversed(noises))
        eps = predict_eps(x, output, a_bar=step.a_bar, kind=kind)
        theirs = scheduler.step(eps, int(step.t), x).prev_sample
    x0 = toy_x0(x, eps, step.a_bar)
    ours = PNDM().move(x, x0, step, noise=None, earlier=tuple(noises))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def toy_x0(x, eps, a_bar):
    return (x - (1 - a_bar) ** 0.5 * eps) / a_bar**0.5


@pytest.mark.parametrize("sampler", [LMS(), PNDM()])
def test_multistep_remembers_noise_and_refuses_a_lost_past(rng, sampler):
    plan = plan_steps(a_bars64(NoiseSchedule()), timesteps(1000, 5, Spacing.trailing))
    x, x0 = torch.randn(2, 1, 1, 3, 3, generator=rng)
    eps = remembered(sampler, x, x0, plan[2])
    torch.testing.assert_close(toy_x0(x, eps, plan[2].a_bar), x0, rtol=1e-4, atol=1e-4)
    with pytest.raises(
        ConfigError, match=r"step 3 of 5 of .* needs the noise estimates of 2 earlier steps, got 1"
    ):
        sampler.move(x, x0, plan[2], noise=None, earlier=(eps,))
    with pytest.raises(ConfigError, match="order must lie in 1 … 4, got 5"):
        LMS(order=5)
