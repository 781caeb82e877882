"""x0, ε and v of one x_t: each gives the others, in the precision of its inputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.diffusion.prediction import (
    add_noise,
    predict_difference,
    predict_eps,
    predict_v,
    predict_x0,
)
from hypir_core.weights.spec import Prediction

CONVERSIONS = {
    Prediction.x0: predict_x0,
    Prediction.eps: predict_eps,
    Prediction.v: predict_v,
    Prediction.difference: predict_difference,
}

levels = st.floats(1e-6, 1 - 1e-6)
values = st.lists(st.floats(-10, 10), min_size=1, max_size=6)


@settings(deadline=None)
@given(a_bar=levels, x0=values, eps=values, kind=st.sampled_from(Prediction), to=st.sampled_from(Prediction))
def test_each_gives_the_others(a_bar, x0, eps, kind, to):
    size = min(len(x0), len(eps))
    clean, noise = (torch.tensor(numbers[:size], dtype=torch.float64) for numbers in (x0, eps))
    x = add_noise(clean, noise, a_bar=a_bar)
    known = {
        Prediction.x0: clean,
        Prediction.eps: noise,
        Prediction.v: a_bar**0.5 * noise - (1 - a_bar) ** 0.5 * clean,
        Prediction.difference: x - clean,
    }
    # The worst divisor is √ā or √(1 − ā), 1e-3 at least: three digits of sixteen are lost.
    torch.testing.assert_close(
        CONVERSIONS[to](x, known[kind], a_bar=a_bar, kind=kind), known[to], rtol=1e-10, atol=1e-11
    )


@settings(deadline=None)
@given(a_bar=levels, x=values, given_value=st.floats(-10, 10), kind=st.sampled_from(Prediction))
def test_there_and_back(a_bar, x, given_value, kind):
    x = torch.tensor(x, dtype=torch.float64)
    prediction = torch.full_like(x, given_value)
    for to, convert in CONVERSIONS.items():
        there = convert(x, prediction, a_bar=a_bar, kind=kind)
        back = CONVERSIONS[kind](x, there, a_bar=a_bar, kind=to)
        torch.testing.assert_close(back, prediction, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("convert", CONVERSIONS.values())
@pytest.mark.parametrize("kind", list(Prediction))
@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_the_type_is_never_below_float32(rng, convert, kind, dtype, result):
    x, prediction = torch.randn(2, 1, 2, 3, 4, generator=rng).to(dtype)
    out = convert(x, prediction, a_bar=0.3, kind=kind)
    assert out.dtype == result
    assert torch.equal(out, convert(x.to(result), prediction.to(result), a_bar=0.3, kind=kind))


@pytest.mark.parametrize("convert", CONVERSIONS.values())
@pytest.mark.parametrize("kind", list(Prediction))
def test_every_image_may_have_its_own_level(rng, convert, kind):
    x, prediction = torch.randn(2, 3, 2, 4, 5, generator=rng, dtype=torch.float64)
    levels = torch.tensor([0.9, 0.5, 0.01], dtype=torch.float64)
    together = convert(x, prediction, a_bar=levels.reshape(3, 1, 1, 1), kind=kind)
    for image, level in enumerate(levels.tolist()):
        alone = convert(x[image], prediction[image], a_bar=level, kind=kind)
        torch.testing.assert_close(together[image], alone, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("convert", CONVERSIONS.values())
def test_a_kind_may_be_named_by_its_value_and_an_unknown_one_is_refused(convert):
    one = torch.ones(1)
    for kind in Prediction:
        assert torch.equal(
            convert(one, one, a_bar=0.3, kind=kind.value), convert(one, one, a_bar=0.3, kind=kind)
        )
    with pytest.raises(ValueError, match="flow"):
        convert(one, one, a_bar=0.3, kind="flow")


def test_equal_diffusers_velocity_and_noising(rng):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    clean, noise = torch.randn(2, 1, 4, 5, 6, generator=rng)
    t, a_bar = torch.tensor([300]), float(scheduler.alphas_cumprod[300])
    x = add_noise(clean, noise, a_bar=a_bar)
    torch.testing.assert_close(x, scheduler.add_noise(clean, noise, t))
    velocity = scheduler.get_velocity(clean, noise, t)
    torch.testing.assert_close(
        predict_v(x, noise, a_bar=a_bar, kind=Prediction.eps), velocity, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        predict_v(x, clean, a_bar=a_bar, kind=Prediction.x0), velocity, rtol=1e-5, atol=1e-5
    )
