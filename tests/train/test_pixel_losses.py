"""Losses of spectra, sizes and counts: closed-form numbers, and what each is for."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from hypir_core.components import create_loss
from hypir_core.errors import ShapeError
from train.losses import LOSSES

NAMES = ("log_fourier", "spectral", "multi_scale_frequency", "high_frequency", "frequency_bands", "haar")


@pytest.fixture(scope="module")
def numbers(golden):
    return load_file(golden / "pkl" / "training.safetensors")


@pytest.mark.parametrize("number", [0, 1])
def test_closed_form(golden, numbers, number):
    case = json.loads((golden / "pkl" / "training.json").read_text())["losses"][number]
    image, target = numbers[f"loss.{number}.pred"], numbers[f"loss.{number}.target"]
    losses = {name: LOSSES.get(name) for name in (*NAMES, "pyramid")}
    losses["log_fourier_l2"] = partial(LOSSES.get("log_fourier"), squared=True)
    for name, loss in losses.items():
        x = image.clone().requires_grad_()
        value = loss(x, target)
        assert float(value.detach()) == pytest.approx(case["values"][name], abs=1e-9), name
        (gradient,) = torch.autograd.grad(value, x)
        places = [float(gradient[tuple(place)]) for place in case["gradient_places"]]
        if name in {"pyramid", "log_fourier_l2", "log_fourier", "frequency_bands", "spectral"}:
            assert places == pytest.approx(case["gradients"][name], abs=1e-4, rel=1e-4), name
    if number == 0:
        found = LOSSES.get("poisson_nll")(numbers["loss.0.rate"], numbers["loss.0.counts"])
        assert float(found) == pytest.approx(case["values"]["poisson_nll(rate, counts)"], abs=1e-9)


def test_counts_are_most_likely_at_their_own_rate():
    counts = torch.tensor([[[[0.0, 1.0, 7.0, 40.0]]]], dtype=torch.float64)
    rates = counts.clamp(min=0.01).requires_grad_()
    loss = LOSSES.get("poisson_nll")
    (gradient,) = torch.autograd.grad(loss(rates, counts), rates)
    assert gradient[..., 1:].abs().max() < 1e-12
    assert float(loss(counts, counts)) < float(loss(counts * 1.1, counts))
    assert torch.isfinite(loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)))


def test_coarse_losses_do_not_see_what_only_the_finest_pixels_tell():
    rows = torch.arange(16)
    checks = ((rows[:, None] + rows) % 2).float()[None, None] * 2 - 1
    flat = torch.zeros_like(checks)
    assert float(LOSSES.get("cross_resolution")(checks, flat)) == 0
    assert float(LOSSES.get("cross_resolution")(flat + 0.5, flat)) == pytest.approx(0.25)
    assert float(LOSSES.get("pyramid")(checks, flat)) == pytest.approx(1)  # 16 px leave the finest level only
    wide = checks.repeat(1, 1, 2, 2)
    assert float(LOSSES.get("pyramid")(wide, torch.zeros_like(wide))) == pytest.approx(0.5)


def test_every_one_has_a_gradient_where_the_original_had_none():
    """There, wavelets went through numpy, and the frequency and consistency losses stood under no_grad."""
    for name in (*NAMES, "pyramid", "cross_resolution", "poisson_nll"):
        image = torch.rand(1, 2, 16, 18, requires_grad=True)
        create_loss(name)(image, torch.rand(1, 2, 16, 18)).backward()
        assert image.grad is not None
        assert float(image.grad.abs().sum()) > 0, name
        assert float(image.grad[:, 1].abs().sum()) > 0, f"{name} sees one channel only"


def test_too_small():
    for name in ("haar", "multi_scale_frequency"):
        with pytest.raises(ShapeError, match=f"{name}: expected images of at least 8 px"):
            LOSSES.get(name)(torch.zeros(1, 1, 7, 20), torch.zeros(1, 1, 7, 20))
