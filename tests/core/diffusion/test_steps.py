"""The steps of a run, and the contract that every sampler keeps."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.diffusion.prediction import predict_x0
from hypir_core.diffusion.samplers import SAMPLERS
from hypir_core.diffusion.samplers.ancestral import EulerAncestral
from hypir_core.diffusion.samplers.base import Step, plan_steps, posterior_std
from hypir_core.diffusion.samplers.ddim import DDIM
from hypir_core.diffusion.samplers.ddpm import DDPM
from hypir_core.diffusion.samplers.dpmpp_2m import DPMpp2M
from hypir_core.diffusion.samplers.euler import Euler
from hypir_core.diffusion.schedule import BetaKind, NoiseSchedule, a_bars64
from hypir_core.errors import ConfigError, ShapeError
from hypir_core.weights.spec import Prediction
from tests.core.diffusion.runs import toy_denoiser, walk

CURVE = a_bars64(NoiseSchedule())
MIDDLE = plan_steps(CURVE, (800, 500, 200))[1]


@settings(deadline=None)
@given(st.sets(st.integers(0, 999), min_size=1, max_size=20))
def test_each_step_ends_where_the_next_begins(visited):
    falling = sorted(visited, reverse=True)
    plan = plan_steps(CURVE, falling)
    assert [step.t for step in plan] == falling
    assert [step.a_bar for step in plan] == CURVE[falling].tolist()
    assert [step.a_bar_next for step in plan] == [*(step.a_bar for step in plan[1:]), 1.0]
    assert [step.a_bar_before for step in plan] == [None, *(step.a_bar for step in plan[:-1])]
    assert [(step.index, step.of) for step in plan] == [(i, len(plan)) for i in range(len(plan))]


def test_with_a_stride_a_step_ends_at_t_minus_stride():
    """Three trailing steps of diffusers' DDIM: 999 → 666 → 333, although the third starts at 332."""
    plan = plan_steps(CURVE, (999, 666, 332), stride=333)
    assert [step.a_bar_next for step in plan] == [float(CURVE[666]), float(CURVE[333]), 1.0]
    assert plan[2].a_bar == float(CURVE[332])
    ended = plan_steps(CURVE, (999, 499), stride=500, a_bar_last=float(CURVE[0]))
    assert ended[-1].a_bar_next == float(CURVE[0])


def test_between_two_timesteps_sigma_runs_linearly():
    sigmas = ((1 - CURVE[499:501]) / CURVE[499:501]).sqrt()
    step = plan_steps(CURVE, (499.25,))[0]
    assert ((1 - step.a_bar) / step.a_bar) ** 0.5 == pytest.approx(
        float(0.75 * sigmas[0] + 0.25 * sigmas[1]), rel=1e-12
    )


@pytest.mark.parametrize(
    ("timesteps", "options", "says"),
    [
        ((), {}, r"0 … 999"),
        ((100, 100), {}, r"must fall"),
        ((100, 200), {}, r"must fall"),
        ((1000, 10), {}, r"0 … 999"),
        ((10, -1), {}, r"0 … 999"),
        ((10,), {"stride": 0}, r"stride must be 1 or more"),
        ((10,), {"a_bar_last": 0.5}, r"timestep 10 must raise ā"),
        ((10,), {"a_bar_last": 1.01}, r"timestep 10 must raise ā"),
        ((0,), {"a_bar_last": float(CURVE[0])}, r"timestep 0 must raise ā"),
    ],
)
def test_an_impossible_plan_is_refused(timesteps, options, says):
    with pytest.raises(ConfigError, match=says):
        plan_steps(CURVE, timesteps, **options)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_the_registry_holds_frozen_dataclasses_under_their_own_names(name):
    sampler = SAMPLERS.get(name)()
    assert sampler.name == name
    assert SAMPLERS.entry(name).summary
    assert dataclasses.is_dataclass(sampler)
    assert type(sampler).__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert sampler == SAMPLERS.get(name)()


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_a_move_is_a_pure_function(rng, name):
    """Twice the same, whatever ran between; no argument changes; nothing is kept on the object."""
    sampler = SAMPLERS.get(name)()
    x, x0, noise, before = torch.randn(4, 2, 3, 4, 5, generator=rng)
    given_tensors = [tensor.clone() for tensor in (x, x0, noise, before)]
    kept = copy.deepcopy(vars(sampler))
    first = sampler.move(x, x0, MIDDLE, noise=noise, earlier=(before,))
    sampler.move(x0, x, plan_steps(CURVE, (300,))[0], noise=noise, earlier=())
    assert torch.equal(first, sampler.move(x, x0, MIDDLE, noise=noise, earlier=(before, x)))
    assert vars(sampler) == kept
    for now, then in zip((x, x0, noise, before), given_tensors, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("name", SAMPLERS.names())
@pytest.mark.parametrize(
    ("dtype", "result"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_types_and_any_number_of_axes(rng, name, dtype, result):
    sampler = SAMPLERS.get(name)()
    for shape in ((2, 3, 7), (2, 3, 4, 5), (1, 2, 3, 4, 5)):
        x, x0, noise, before = torch.randn(4, *shape, generator=rng).to(dtype)
        out = sampler.move(x, x0, MIDDLE, noise=noise, earlier=(before,))
        assert (out.dtype, out.shape) == (result, x.shape)
        wide = [tensor.to(result) for tensor in (x, x0, noise, before)]
        assert torch.equal(out, sampler.move(*wide[:2], MIDDLE, noise=wide[2], earlier=wide[3:]))
        ended = plan_steps(CURVE, (300,))[0]
        assert sampler.move(x, x0, ended, noise=None, earlier=(before,)).dtype == result


@pytest.mark.parametrize("name", SAMPLERS.names())
@pytest.mark.parametrize("beta", list(BetaKind))
def test_float32_keeps_its_digits_over_a_whole_run(rng, name, beta):
    """σ is 2·10⁴ at the far end of the cosine schedule; a run in σ would lose four of seven digits there."""
    sampler = SAMPLERS.get(name)()
    plan = plan_steps(a_bars64(NoiseSchedule(kind=beta)), (999, 900, 600, 300, 100))
    x = torch.randn(2, 3, 4, 5, generator=rng)
    noises = torch.randn(len(plan), *x.shape, generator=rng)
    single = walk(x, toy_denoiser(Prediction.x0), plan, sampler, noises)
    double = walk(x.double(), toy_denoiser(Prediction.x0), plan, sampler, noises.double())
    assert (single - double).abs().max().item() < 3e-6


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_a_tensor_of_another_shape_is_refused(name):
    sampler = SAMPLERS.get(name)()
    x, other = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 1, 4)
    with pytest.raises(ShapeError, match=r"x0 .*\[1, 2, 3, 4\], got \[1, 2, 1, 4\]"):
        sampler.move(x, other, MIDDLE, noise=x, earlier=(x,))
    if sampler.stochastic:
        with pytest.raises(ShapeError, match="noise"):
            sampler.move(x, x, MIDDLE, noise=other, earlier=(x,))
    if sampler.history:
        with pytest.raises(ShapeError, match="earlier"):
            sampler.move(x, x, MIDDLE, noise=x, earlier=(other,))


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_what_a_sampler_asks_for_it_needs_and_nothing_else(rng, name):
    """`stochastic` and `history` are what an engine goes by: without the noise or the past a move is an error."""
    sampler = SAMPLERS.get(name)()
    x, x0, noise, before = torch.randn(4, 1, 2, 3, 4, generator=rng)
    full = sampler.move(x, x0, MIDDLE, noise=noise, earlier=(before,))
    if sampler.stochastic:
        assert not torch.equal(full, sampler.move(x, x0, MIDDLE, noise=-noise, earlier=(before,)))
        with pytest.raises(ConfigError, match=r"step 2 of 3 .*noise"):
            sampler.move(x, x0, MIDDLE, noise=None, earlier=(before,))
    else:
        assert torch.equal(full, sampler.move(x, x0, MIDDLE, noise=None, earlier=(before,)))
    if sampler.history:
        assert not torch.equal(full, sampler.move(x, x0, MIDDLE, noise=noise, earlier=(-before,)))
        with pytest.raises(ConfigError, match=f"step 2 of 3 of {name}"):
            sampler.move(x, x0, MIDDLE, noise=noise, earlier=())
    else:
        assert torch.equal(full, sampler.move(x, x0, MIDDLE, noise=noise, earlier=()))


@settings(deadline=None)
@given(
    visited=st.lists(st.integers(0, 999), min_size=2, max_size=2, unique=True),
    eta=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_the_first_order_samplers_are_one_formula(visited, eta, seed):
    """DDPM and Euler ancestral are DDIM with η = 1, Euler is DDIM with η = 0, written out in their papers' symbols."""
    step = plan_steps(CURVE, sorted(visited, reverse=True))[0]
    generator = torch.Generator().manual_seed(seed)
    x, x0, z = torch.randn(3, 1, 1, 2, 3, generator=generator, dtype=torch.float64)
    now, after = step.a_bar, step.a_bar_next
    beta = 1 - now / after
    posterior = (after**0.5 * beta * x0 + (now / after) ** 0.5 * (1 - after) * x) / (1 - now)
    ancestral = posterior + (beta * (1 - after) / (1 - now)) ** 0.5 * z
    sigma, sigma_to = ((1 - now) / now) ** 0.5, ((1 - after) / after) ** 0.5
    up = eta * sigma_to * (1 - (sigma_to / sigma) ** 2) ** 0.5
    y = x / now**0.5
    slope = (y - x0) / sigma
    down = (sigma_to**2 - up**2) ** 0.5
    close = {"rtol": 1e-9, "atol": 1e-9}
    move = {"noise": z, "earlier": ()}
    torch.testing.assert_close(DDPM().move(x, x0, step, **move), ancestral, **close)
    torch.testing.assert_close(DDIM(eta=1).move(x, x0, step, **move), ancestral, **close)
    torch.testing.assert_close(EulerAncestral().move(x, x0, step, **move), ancestral, **close)
    torch.testing.assert_close(
        Euler().move(x, x0, step, **move), after**0.5 * (y + (sigma_to - sigma) * slope), **close
    )
    torch.testing.assert_close(
        EulerAncestral(eta=eta, s_noise=1.3).move(x, x0, step, **move),
        after**0.5 * (y + (down - sigma) * slope + 1.3 * up * z),
        **close,
    )


def test_one_step_is_the_closed_form_bit_for_bit(rng):
    """The one-step restorers are any sampler with one step."""
    z, prediction = torch.randn(2, 1, 4, 5, 6, generator=rng)
    step = plan_steps(CURVE, (200,))[0]
    x0 = predict_x0(z, prediction, a_bar=step.a_bar)
    for name in SAMPLERS.names():
        assert torch.equal(SAMPLERS.get(name)().move(z, x0, step, noise=None, earlier=()), x0)


def test_gradients_flow_through_every_move(rng):
    for name in SAMPLERS.names():
        x, x0, noise, before = torch.randn(4, 1, 1, 2, 3, generator=rng, dtype=torch.float64).unbind()
        sampler = SAMPLERS.get(name)()
        assert torch.autograd.gradcheck(
            lambda x, x0, sampler=sampler, noise=noise, before=before: sampler.move(
                x, x0, MIDDLE, noise=noise, earlier=(before,)
            ),
            (x.clone().requires_grad_(), x0.clone().requires_grad_()),
        )


def test_short_runs_of_dpmpp_end_with_a_first_order_step(rng):
    x, x0, before = torch.randn(3, 1, 1, 2, 3, generator=rng)

    def end(of: int, **options: bool) -> torch.Tensor:
        step = Step(index=of - 1, of=of, t=9, a_bar=0.9, a_bar_next=0.99, a_bar_before=0.7)
        return DPMpp2M(**options).move(x, x0, step, noise=None, earlier=(before,))

    first = Euler().move(x, x0, Step(index=0, of=1, t=9, a_bar=0.9, a_bar_next=0.99), noise=None, earlier=())
    assert torch.equal(end(14), first)
    assert not torch.equal(end(15), first)
    assert torch.equal(end(15), end(14, lower_order_final=False))


@pytest.mark.parametrize(
    ("cls", "options", "says"),
    [
        (DDIM, {"eta": -0.1}, "eta must lie in 0 … 1"),
        (DDIM, {"eta": 1.1}, "eta must lie in 0 … 1"),
        (DDIM, {"eta": float("nan")}, "eta must lie in 0 … 1"),
        (EulerAncestral, {"eta": 2}, "eta must lie in 0 … 1"),
        (EulerAncestral, {"s_noise": -1}, "s_noise must be 0 or more"),
        (EulerAncestral, {"s_noise": float("nan")}, "s_noise must be 0 or more"),
        (EulerAncestral, {"s_noise": float("inf")}, "s_noise must be 0 or more"),
    ],
)
def test_an_impossible_option_is_refused(cls, options, says):
    with pytest.raises(ConfigError, match=says):
        cls(**options)


def test_an_unknown_variance_is_refused():
    with pytest.raises(ValueError, match="learned"):
        DDPM(variance="learned")  # type: ignore[arg-type]


def test_the_posterior_of_neighbours_is_ho_s():
    """β̃_t = (1 − ā_{t−1})/(1 − ā_t)·β_t."""
    step = plan_steps(CURVE, (500, 499))[0]
    beta = float(1 - CURVE[500] / CURVE[499])
    wanted = float((1 - CURVE[499]) / (1 - CURVE[500])) * beta
    assert posterior_std(step) ** 2 == pytest.approx(wanted, rel=1e-12)
