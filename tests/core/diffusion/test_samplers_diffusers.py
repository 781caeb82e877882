"""Every sampler against diffusers' scheduler of the same name, both in double precision on the same toy network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from hypir_core.diffusion.prediction import predict_eps
from hypir_core.diffusion.samplers import SAMPLERS
from hypir_core.diffusion.samplers.base import Step, plan_steps
from hypir_core.diffusion.schedule import BetaKind, NoiseSchedule, a_bars64
from hypir_core.diffusion.timesteps import Spacing, timesteps
from hypir_core.weights.spec import Prediction
from tests.core.diffusion.runs import diffusers_in_double, toy_denoiser, toy_network, walk

TRAIN_STEPS = 1000
STEPS = (1, 2, 3, 5, 10, 25)
PREDICTION_NAMES = {Prediction.eps: "epsilon", Prediction.v: "v_prediction", Prediction.x0: "sample"}
BETA_NAMES = {BetaKind.cosine: "squaredcos_cap_v2"}


@dataclass(frozen=True, kw_only=True)
class Twin:
    """One of our samplers and the scheduler of diffusers that it must equal."""

    sampler: str
    options: dict[str, Any] = field(default_factory=dict)
    module: str
    scheduler: str
    settings: dict[str, Any] = field(default_factory=dict)
    step_settings: dict[str, Any] = field(default_factory=dict)
    ends_clean: bool = True
    """Else at ā of timestep 0."""
    sigma_space: bool = False
    """Whether the scheduler's samples are x_t/√ā."""
    knows_x0: bool = True
    """Whether the scheduler takes a network that predicts x0; else it is given ε of the same estimate."""


TWINS = {
    "ddim": Twin(sampler="ddim", module="ddim", scheduler="DDIMScheduler", settings={"clip_sample": False}),
    "ddim eta": Twin(
        sampler="ddim",
        options={"eta": 0.6},
        module="ddim",
        scheduler="DDIMScheduler",
        settings={"clip_sample": False},
        step_settings={"eta": 0.6},
    ),
    "ddim noisy end": Twin(
        sampler="ddim",
        module="ddim",
        scheduler="DDIMScheduler",
        settings={"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
        ends_clean=False,
    ),
    "ddpm": Twin(sampler="ddpm", module="ddpm", scheduler="DDPMScheduler", settings={"clip_sample": False}),
    "ddpm large": Twin(
        sampler="ddpm",
        options={"variance": "fixed_large"},
        module="ddpm",
        scheduler="DDPMScheduler",
        settings={"clip_sample": False, "variance_type": "fixed_large"},
    ),
    "euler": Twin(
        sampler="euler", module="euler_discrete", scheduler="EulerDiscreteScheduler", sigma_space=True
    ),
    "euler noisy end": Twin(
        sampler="euler",
        module="euler_discrete",
        scheduler="EulerDiscreteScheduler",
        settings={"final_sigmas_type": "sigma_min", "steps_offset": 1},
        sigma_space=True,
        ends_clean=False,
    ),
    "euler_ancestral": Twin(
        sampler="euler_ancestral",
        module="euler_ancestral_discrete",
        scheduler="EulerAncestralDiscreteScheduler",
        sigma_space=True,
        knows_x0=False,
    ),
    "dpmpp_2m": Twin(
        sampler="dpmpp_2m",
        module="dpmsolver_multistep",
        scheduler="DPMSolverMultistepScheduler",
        settings={"algorithm_type": "dpmsolver++", "solver_order": 2},
    ),
    "dpmpp_2m noisy end": Twin(
        sampler="dpmpp_2m",
        module="dpmsolver_multistep",
        scheduler="DPMSolverMultistepScheduler",
        settings={"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "sigma_min"},
        ends_clean=False,
    ),
    "dpmpp_2m second order to the end": Twin(
        sampler="dpmpp_2m",
        options={"lower_order_final": False},
        module="dpmsolver_multistep",
        scheduler="DPMSolverMultistepScheduler",
        settings={
            "algorithm_type": "dpmsolver++",
            "solver_order": 2,
            "final_sigmas_type": "sigma_min",
            "lower_order_final": False,
        },
        ends_clean=False,
    ),
}


PAIRS = [
    pytest.param(twin, spacing, id=f"{name}-{spacing.value}")
    for name, twin in TWINS.items()
    for spacing in Spacing
    # linspace visits timestep 0 (but for DPM-Solver): a last step would lead from its ā to itself
    if twin.ends_clean or spacing is not Spacing.linspace or twin.sampler == "dpmpp_2m"
]


@pytest.mark.parametrize("beta", [BetaKind.scaled_linear, BetaKind.cosine])
@pytest.mark.parametrize("kind", list(PREDICTION_NAMES))
@pytest.mark.parametrize(("twin", "spacing"), PAIRS)
def test_every_run_equals_diffusers(rng, twin, spacing, kind, beta):
    curve = a_bars64(NoiseSchedule(kind=beta))
    for count in STEPS:
        plan = _plan(twin, spacing, count, curve)
        x = torch.randn(2, 3, 4, 5, generator=rng, dtype=torch.float64)
        noises = torch.randn(count, 2, 3, 4, 5, generator=rng, dtype=torch.float64)
        # Where diffusers draws in a step that ends on x0, it multiplies by 1e-10 (or, with the large variance, leaves
        # a picture full of noise): zeros there.
        if twin.ends_clean:
            noises[-1] = 0
        sampler = SAMPLERS.get(twin.sampler)(**twin.options)
        ours = walk(x, toy_denoiser(kind), plan, sampler, noises)
        theirs, visited = _diffusers(twin, spacing, kind, beta, count, x, noises)
        assert [step.t for step in plan] == pytest.approx(visited, abs=1e-12, rel=1e-12)
        assert ours.dtype == torch.float64
        size = max(1.0, theirs.abs().max().item())
        assert (ours - theirs).abs().max().item() <= 1e-10 * size, f"{count} steps"


def _plan(twin: Twin, spacing: Spacing, count: int, curve: torch.Tensor) -> tuple[Step, ...]:
    offset = twin.settings.get("steps_offset", 0)
    if twin.sampler == "dpmpp_2m" and spacing is not Spacing.trailing:
        visited = timesteps(TRAIN_STEPS, count + 1, spacing, offset=offset)[:-1]
    else:
        whole = not twin.sampler.startswith("euler")
        visited = timesteps(TRAIN_STEPS, count, spacing, offset=offset, whole=whole)
    stride = TRAIN_STEPS // count if twin.sampler == "ddim" else None
    return plan_steps(curve, visited, a_bar_last=1.0 if twin.ends_clean else float(curve[0]), stride=stride)


def _diffusers(twin, spacing, kind, beta, count, x, noises) -> tuple[torch.Tensor, list[float]]:
    as_eps = kind is Prediction.x0 and not twin.knows_x0
    with diffusers_in_double(twin.module, noises) as module:
        scheduler = getattr(module, twin.scheduler)(
            TRAIN_STEPS,
            beta_start=NoiseSchedule().beta_start,
            beta_end=NoiseSchedule().beta_end,
            beta_schedule=BETA_NAMES.get(beta, beta.value),
            prediction_type="epsilon" if as_eps else PREDICTION_NAMES[kind],
            timestep_spacing=spacing.value,
            **twin.settings,
        )
        scheduler.set_timesteps(count)
        assert scheduler.alphas_cumprod.dtype == torch.float64
        step: Callable[..., Any] = scheduler.step
        if twin.sigma_space:
            x = x * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
        for index, t in enumerate(scheduler.timesteps):
            given = scheduler.scale_model_input(x, t)
            output = toy_network(given, float(t))
            if as_eps:
                a_bar = 1 / (1 + float(scheduler.sigmas[index]) ** 2)
                output = predict_eps(given, output, a_bar=a_bar, kind=Prediction.x0)
            extra = {"variance_noise": noises[index]} if "eta" in twin.step_settings else {}
            x = step(output, t, x, **twin.step_settings, **extra).prev_sample
        if twin.sigma_space:
            x = x / math.sqrt(float(scheduler.sigmas[-1]) ** 2 + 1)
    return x, [float(t) for t in scheduler.timesteps]


def test_the_oracle_runs_in_double():
    """Undoubled, the same scheduler leaves its float32 rounding; doubled, it does not."""
    from diffusers import EulerDiscreteScheduler

    single = EulerDiscreteScheduler(beta_schedule="scaled_linear").alphas_cumprod
    with diffusers_in_double("euler_discrete") as module:
        double = module.EulerDiscreteScheduler(beta_schedule="scaled_linear").alphas_cumprod
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert 1e-9 < (single.double() - double).abs().max() < 1e-5
