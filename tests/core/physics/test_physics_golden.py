"""Operator, data terms, guidance and deconvolution against closed-form numbers."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from hypir_core.physics.data_terms import FLOOR, Measurement, Term, anscombe, gradient, value
from hypir_core.physics.deconvolve import richardson_lucy
from hypir_core.physics.guidance import seed_step
from hypir_core.physics.operator import Boundary, PsfOperator
from hypir_core.physics.psf import gaussian_psf

BOUNDARIES = {"circular": Boundary.periodic, "reflect": Boundary.reflect, "replicate": Boundary.edge}


@pytest.fixture(scope="module")
def cases(golden):
    return json.loads((golden / "pkl" / "physics.json").read_text())


@pytest.fixture(scope="module")
def numbers(golden):
    return load_file(golden / "pkl" / "physics.safetensors")


def test_the_gaussian(numbers):
    ours = gaussian_psf((2.0, 2.0), size_px=(15, 15))
    torch.testing.assert_close(ours, numbers["physics.psf.gaussian"], rtol=1e-12, atol=1e-14)


def test_everything_of_a_microscope(cases, numbers):
    for case in cases["physics"]:
        key = f"physics.{case['psf']}.{case['boundary']}"
        t = {
            name: numbers[f"{key}.{name}"][None, None]
            for name in ("x", "y", "guess", "z", "A_x", "At_z", "At_1")
        }
        operator = PsfOperator(numbers[f"physics.psf.{case['psf']}"], boundary=BOUNDARIES[case["boundary"]])
        near = {"rtol": 1e-10, "atol": 1e-10}
        torch.testing.assert_close(operator.A(t["x"]), t["A_x"], **near)
        torch.testing.assert_close(operator.At(t["z"]), t["At_z"], **near)
        torch.testing.assert_close(operator.At(torch.ones_like(t["z"])), t["At_1"], **near)
        inner = float((operator.A(t["x"]) * t["z"]).sum()), float((t["x"] * operator.At(t["z"])).sum())
        assert inner[0] == pytest.approx(inner[1], rel=1e-12, abs=1e-12)
        measured = Measurement(
            y=t["y"],
            operator=operator,
            background_e=case["background"],
            read_variance=case["read_noise"] ** 2,
        )
        for term in Term:
            g = gradient(term, t["guess"], measured)
            theirs = numbers[f"{key}.grad.{term.value}"][None, None]
            torch.testing.assert_close(g, theirs, rtol=1e-8, atol=1e-8)
            assert float(value(term, t["guess"], measured)) == pytest.approx(
                case["objective"][term.value], rel=1e-8
            )
            for time, step in case["lambda_seed"][term.value].items():
                assert float(seed_step(g, float(time))) == pytest.approx(step, rel=1e-9)
        noiseless = Measurement(y=t["y"], operator=operator, background_e=case["background"])
        for steps in (1, 5, 30):
            theirs = numbers[f"{key}.rl.{steps}"][None, None]
            # theirs divides by the rate itself, ours by it and a floor
            torch.testing.assert_close(
                richardson_lucy(noiseless, steps=steps), theirs, rtol=30 * FLOOR, atol=1e-9
            )


def test_anscombe(cases):
    x = torch.tensor(cases["anscombe"]["x"], dtype=torch.float64)
    torch.testing.assert_close(anscombe(x), torch.tensor(cases["anscombe"]["f"], dtype=torch.float64))
