"""x0 from one prediction: inverse of the forward process, equal to diffusers, differentiable."""

from __future__ import annotations

import pytest
import torch

from hypir_core.diffusion.prediction import predict_x0
from hypir_core.diffusion.schedule import NoiseSchedule, a_bar_at
from hypir_core.weights.spec import Prediction

A_BAR = a_bar_at(NoiseSchedule(), 200)


@pytest.mark.parametrize("a_bar", [0.999, A_BAR, 0.01])
@pytest.mark.parametrize("kind", list(Prediction))
def test_it_inverts_the_forward_process(rng, kind, a_bar):
    x0, eps = torch.randn(2, 2, 4, 5, 6, generator=rng).double()
    z = a_bar**0.5 * x0 + (1 - a_bar) ** 0.5 * eps
    velocity = a_bar**0.5 * eps - (1 - a_bar) ** 0.5 * x0
    prediction = {
        Prediction.eps: eps,
        Prediction.v: velocity,
        Prediction.x0: x0,
        Prediction.difference: z - x0,
    }[kind]
    found = predict_x0(z, prediction, a_bar=a_bar, kind=kind)
    torch.testing.assert_close(found, x0, rtol=1e-12, atol=1e-12 / a_bar**0.5)
    found = predict_x0(z.float(), prediction.float(), a_bar=a_bar, kind=kind)
    torch.testing.assert_close(found, x0.float(), rtol=1e-4, atol=1e-4 / a_bar**0.5)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Prediction.eps, "epsilon"), (Prediction.v, "v_prediction"), (Prediction.x0, "sample")],
)
def test_it_equals_diffusers(rng, kind, name):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=name,
        clip_sample=False,
    )
    z, prediction = torch.randn(2, 1, 4, 8, 8, generator=rng)
    theirs = scheduler.step(prediction, 200, z, generator=rng).pred_original_sample
    torch.testing.assert_close(
        predict_x0(z, prediction, a_bar=A_BAR, kind=kind), theirs, rtol=1e-5, atol=1e-5
    )


def test_known_coefficients():
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    assert predict_x0(one, zero, a_bar=A_BAR).item() == pytest.approx(1.151869, abs=1e-6)
    assert predict_x0(zero, one, a_bar=A_BAR).item() == pytest.approx(-0.571666, abs=1e-6)


def test_half_formats_are_combined_in_float32(rng):
    z, eps = torch.randn(2, 1, 4, 8, 8, generator=rng).bfloat16()
    out = predict_x0(z, eps, a_bar=A_BAR)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, predict_x0(z.float(), eps.float(), a_bar=A_BAR), rtol=0, atol=0)


@pytest.mark.parametrize("kind", list(Prediction))
def test_gradients_flow_to_the_network(rng, kind):
    z = torch.randn(1, 2, 3, 3, generator=rng)
    weight = torch.tensor(0.7, requires_grad=True)
    predict_x0(z, weight * z, a_bar=A_BAR, kind=kind).sum().backward()
    slope = {
        Prediction.eps: -(((1 - A_BAR) / A_BAR) ** 0.5),
        Prediction.v: -((1 - A_BAR) ** 0.5),
        Prediction.x0: 1.0,
        Prediction.difference: -1.0,
    }[kind]
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, slope * z.sum(), rtol=1e-4, atol=1e-4)
