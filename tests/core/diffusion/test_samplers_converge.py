"""More steps lead to the right answer, as fast as theory says: a Gaussian mixture has a denoiser in closed form.

In one dimension the probability flow keeps quantiles, so where it ends is known without any sampler.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hypir_core.diffusion.samplers import SAMPLERS
from hypir_core.diffusion.samplers.base import Step, plan_steps
from hypir_core.diffusion.samplers.ddim import DDIM
from hypir_core.diffusion.samplers.ddpm import DDPM, Variance
from hypir_core.diffusion.schedule import NoiseSchedule, a_bars64
from hypir_core.diffusion.timesteps import Spacing, timesteps
from tests.core.diffusion.runs import walk

WEIGHTS = torch.tensor([0.35, 0.65], dtype=torch.float64)
MEANS = torch.tensor([-0.8, 0.6], dtype=torch.float64)
VARIANCES = torch.tensor([0.16, 0.09], dtype=torch.float64)

FAR, NEAR = 0.005, 0.995
"""ā at both ends of the runs."""


def _noised(a_bar: float) -> tuple[Tensor, Tensor]:
    """Return means and variances of the mixture at a noise level."""
    return a_bar**0.5 * MEANS, a_bar * VARIANCES + 1 - a_bar


def _denoise(x: Tensor, step: Step) -> Tensor:
    """Return E[x0 | x_t]."""
    means, variances = _noised(step.a_bar)
    away = x[..., None] - means
    logits = WEIGHTS.log() - 0.5 * variances.log() - 0.5 * away.square() / variances
    each = MEANS + step.a_bar**0.5 * VARIANCES / variances * away
    return (logits.softmax(-1) * each).sum(-1)


def _quantile(x: Tensor, a_bar: float) -> Tensor:
    means, variances = _noised(a_bar)
    return (WEIGHTS * 0.5 * torch.erfc(-(x[..., None] - means) / (2 * variances).sqrt())).sum(-1)


def _flow_end(x: Tensor) -> Tensor:
    """Return where the probability flow from FAR to NEAR ends: the point of the same quantile, by bisection."""
    wanted = _quantile(x, FAR)
    low, high = torch.full_like(x, -10), torch.full_like(x, 10)
    for _ in range(100):
        middle = (low + high) / 2
        below = _quantile(middle, NEAR) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _steps(count: int) -> tuple[Step, ...]:
    """Return steps from FAR to NEAR, even in λ = ½·log(ā/(1 − ā))."""
    ends = [0.5 * math.log(a / (1 - a)) for a in (FAR, NEAR)]
    levels = [1 / (1 + math.exp(-2 * (ends[0] + (ends[1] - ends[0]) * i / count))) for i in range(count + 1)]
    return tuple(
        Step(
            index=i,
            of=count,
            t=0,
            a_bar=levels[i],
            a_bar_next=levels[i + 1],
            a_bar_before=levels[i - 1] if i else None,
        )
        for i in range(count)
    )


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("ddim", {}, 1),
        ("euler", {}, 1),
        ("euler_ancestral", {"eta": 0.0}, 1),
        ("dpmpp_2m", {}, 2),
    ],
)
def test_deterministic_samplers_converge_at_their_order(name, options, order):
    x = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)
    exact = _flow_end(x)
    counts = (40, 80, 160, 320, 640)
    errors = [
        (walk(x, _denoise, _steps(count), SAMPLERS.get(name)(**options)) - exact)
        .square()
        .mean()
        .sqrt()
        .item()
        for count in counts
    ]
    orders = [math.log2(before / after) for before, after in pairwise(errors)]
    assert orders[-1] == pytest.approx(order, abs=0.1), (errors, orders)
    assert orders[-2] == pytest.approx(order, abs=0.2), (errors, orders)
    assert errors[-1] < (2e-2 if order == 1 else 2e-4)


@pytest.mark.parametrize(
    "sampler", [DDIM(eta=0.5), DDIM(eta=1.0), DDPM(), DDPM(variance=Variance.fixed_large)]
)
def test_stochastic_samplers_draw_from_the_data(rng, sampler):
    """Mean and variance of 40 000 draws are those of the mixture; the standard errors are 0.004 and 0.003."""
    plan = plan_steps(a_bars64(NoiseSchedule()), timesteps(1000, 250, Spacing.trailing))
    x = torch.randn(40_000, generator=rng, dtype=torch.float64)
    noises = torch.randn(len(plan), len(x), generator=rng, dtype=torch.float64)
    drawn = walk(x, _denoise, plan, sampler, noises)
    mean = (WEIGHTS * MEANS).sum()
    variance = (WEIGHTS * (VARIANCES + MEANS.square())).sum() - mean.square()
    assert drawn.mean().item() == pytest.approx(mean.item(), abs=0.02)
    assert drawn.var().item() == pytest.approx(variance.item(), abs=0.02)


@pytest.mark.parametrize("name", SAMPLERS.names())
@pytest.mark.parametrize("count", [1, 2, 7, 25])
@pytest.mark.parametrize("spacing", list(Spacing))
def test_a_perfect_denoiser_gives_the_picture_back(rng, name, count, spacing):
    picture, eps, *noises = torch.randn(2 + count, 2, 3, 4, generator=rng, dtype=torch.float64)
    plan = plan_steps(a_bars64(NoiseSchedule()), timesteps(1000, count, spacing))
    start = plan[0].a_bar ** 0.5 * picture + (1 - plan[0].a_bar) ** 0.5 * eps
    end = walk(start, lambda _x, _step: picture, plan, SAMPLERS.get(name)(), noises)
    assert torch.equal(end, picture)


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m"])
def test_with_the_picture_known_every_level_is_its_noised_picture(rng, name):
    """The deterministic move keeps the noise of x_t: x' = √ā'·x0 + √(1 − ā')·ε with the same ε."""
    picture, eps = torch.randn(2, 2, 3, 4, generator=rng, dtype=torch.float64)
    plan = plan_steps(a_bars64(NoiseSchedule()), (999, 700, 20), a_bar_last=0.9999)
    start = plan[0].a_bar ** 0.5 * picture + (1 - plan[0].a_bar) ** 0.5 * eps
    end = walk(start, lambda _x, _step: picture, plan, SAMPLERS.get(name)())
    torch.testing.assert_close(end, 0.9999**0.5 * picture + 0.0001**0.5 * eps, rtol=1e-10, atol=1e-12)
