"""Schedules and samplers against the golden numbers of pixel diffusion and of SeeSR."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hypir_core.diffusion.prediction import predict_x0
from hypir_core.diffusion.samplers.ancestral import EulerAncestral
from hypir_core.diffusion.samplers.base import Step, plan_steps, posterior_std
from hypir_core.diffusion.samplers.ddim import DDIM
from hypir_core.diffusion.samplers.ddpm import DDPM
from hypir_core.diffusion.samplers.dpmpp_2m import DPMpp2M
from hypir_core.diffusion.samplers.euler import Euler
from hypir_core.diffusion.schedule import BetaKind, NoiseSchedule, a_bars64
from hypir_core.diffusion.timesteps import Spacing, timesteps
from hypir_core.weights.spec import Prediction
from tests.core.diffusion.runs import walk

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def pkl(golden) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    folder = golden / "pkl"
    return json.loads((folder / "diffusion.json").read_text()), load_file(folder / "diffusion.safetensors")


def _schedule(name: str, steps: int) -> NoiseSchedule:
    ends = {"linear": (0.0001, 0.02), "scaled_linear": (0.00085, 0.012), "cosine": (0.0001, 0.02)}[name]
    return NoiseSchedule(steps=steps, beta_start=ends[0], beta_end=ends[1], kind=BetaKind(name))


def test_schedules(pkl):
    cases, tensors = pkl
    assert {case["name"] for case in cases["schedules"]} == {kind.value for kind in BetaKind}
    for case in cases["schedules"]:
        ours = a_bars64(_schedule(case["name"], case["num_timesteps"]))
        theirs = tensors[f"schedule.{case['index']}.alphas_cumprod"]
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12, msg=case["name"])


def test_steps(pkl):
    cases, tensors = pkl
    noise, x, output = tensors["step.z"], tensors["step.x"], tensors["step.out"]
    compared = 0
    for case in cases["steps"]:
        name, train_steps = case["schedule"].split()
        curve = a_bars64(_schedule(name, int(train_steps)))
        step = Step(
            index=1,
            of=20,
            t=case["t"],
            a_bar=float(curve[case["t"]]),
            a_bar_next=1.0 if case["t_next"] < 0 else float(curve[case["t_next"]]),
            a_bar_before=float(curve[case["t_before"]]) if "t_before" in case else None,
        )
        assert step.a_bar == pytest.approx(case["a_bar_t"], rel=1e-12)
        assert posterior_std(step) ** 2 == pytest.approx(case["ddpm_variance"], rel=1e-10, abs=1e-15)
        x0 = predict_x0(x, output, a_bar=step.a_bar, kind=Prediction(case["kind"]))
        x0 = x0.clamp(-1, 1) if case["clip"] else x0
        moved = {
            "x0": x0,
            "ddim_eta0.0": DDIM().move(x, x0, step, noise=None, earlier=()),
            "ddim_eta0.5": DDIM(eta=0.5).move(x, x0, step, noise=noise, earlier=()),
            "ddim_eta1.0": DDIM(eta=1.0).move(x, x0, step, noise=noise, earlier=()),
            "ddpm_mean": DDPM().move(x, x0, step, noise=torch.zeros_like(x), earlier=()),
            "ancestral": DDPM().move(x, x0, step, noise=noise, earlier=()),
            "euler": Euler().move(x, x0, step, noise=None, earlier=()),
            "dpmpp_first": DPMpp2M().move(x, x0, replace(step, a_bar_before=None), noise=None, earlier=()),
            "dpmpp_second": DPMpp2M().move(x, x0, step, noise=None, earlier=(tensors["step.x0_before"],)),
        }
        moved["ancestral in sigma"] = EulerAncestral().move(x, x0, step, noise=noise, earlier=())
        for key, ours in moved.items():
            theirs = tensors.get(f"step.{case['index']}.{key.removesuffix(' in sigma')}")
            if theirs is None:
                # the set has no second-order step without a past, and no Euler step to the end
                assert key in {"euler", "dpmpp_second"}, key
                continue
            size = max(1.0, theirs.abs().max().item())
            assert (ours - theirs).abs().max().item() <= 1e-10 * size, (case, key)
            compared += 1
    assert compared >= 8 * len(cases["steps"])


def test_whole_runs_on_gaussian_data(pkl):
    cases, tensors = pkl
    errors: dict[str, list[float]] = {"ddim": [], "dpmpp_2m": []}
    for case in cases["gaussian_runs"]:
        name, train_steps = case["schedule"].split()
        visited = timesteps(int(train_steps), case["steps"], Spacing(case["spacing"]))
        assert list(visited) == case["timesteps"]
        plan = plan_steps(a_bars64(_schedule(name, int(train_steps))), visited)
        mean, variance = case["mean"], case["sd"] ** 2

        def denoise(
            x: torch.Tensor, step: Step, mean: float = mean, variance: float = variance
        ) -> torch.Tensor:
            signal = step.a_bar**0.5
            gain = variance * signal / (step.a_bar * variance + 1 - step.a_bar)
            return mean + gain * (x - signal * mean)

        for key, sampler in (("ddim", DDIM()), ("dpmpp_2m", DPMpp2M())):
            end = walk(tensors["gaussian.x_T"], denoise, plan, sampler)
            torch.testing.assert_close(end, tensors[f"gaussian.{case['steps']}.{key}"], rtol=1e-8, atol=1e-8)
            errors[key].append((end - tensors[f"gaussian.{case['steps']}.exact"]).abs().max().item())
            assert errors[key][-1] == pytest.approx(case[f"max_error_{key}"], rel=1e-6)
    assert len(errors["ddim"]) == 5
    for falling in errors.values():
        assert falling == sorted(falling, reverse=True)
    assert errors["dpmpp_2m"][-1] < errors["ddim"][-1] / 10


@pytest.mark.parametrize("name", ["turbo_1", "turbo_4_tiled", "quality_5_cfg"])
def test_steps_of_seesr(golden, name):
    """The recorded predictions of a SeeSR run, moved by our DDPM with the recorded noise.

    The original computes in float32 with float32 tables; its last step adds 1e-10 of noise, ours none.
    """
    cases = json.loads((golden / "seesr" / "diffusion.json").read_text())["cases"]
    case = next(case for case in cases if case["name"] == name)
    tensors = load_file(golden / "seesr" / "diffusion.safetensors")
    curve = a_bars64(NoiseSchedule())
    count = case["num_inference_steps"]
    spacing, offset = (Spacing.trailing, 0) if case["base"] == "sd-turbo" else (Spacing.leading, 1)
    visited = timesteps(1000, count, spacing, offset=offset)
    assert list(visited) == case["timesteps"]
    for step in plan_steps(curve, visited, stride=1000 // count):
        x, eps = (tensors[f"{name}.{what}_{step.index}"] for what in ("x", "eps"))
        after = f"{name}.x_{step.index + 1}" if step.index + 1 < count else f"{name}.x_end"
        x0 = predict_x0(x, eps, a_bar=step.a_bar)
        moved = DDPM().move(x, x0, step, noise=tensors[f"{name}.step_noise_{step.index}"], earlier=())
        assert moved.dtype == torch.float32
        torch.testing.assert_close(moved, tensors[after], rtol=1e-5, atol=1e-5)


def test_timesteps_of_seesr(golden):
    """Also those of the cases whose predictions are not recorded; a start below the top skips timesteps above it."""
    for case in json.loads((golden / "seesr" / "diffusion.json").read_text())["cases"]:
        spacing, offset = (Spacing.trailing, 0) if case["base"] == "sd-turbo" else (Spacing.leading, 1)
        visited = timesteps(1000, case["num_inference_steps"], spacing, offset=offset)
        assert [t for t in visited if t <= case["start_steps"]] == case["timesteps"], case["name"]
