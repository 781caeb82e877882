"""Fourier ring correlation against closed-form numbers, and what it must not depend on."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from hypir_core.errors import ShapeError
from hypir_core.metrics.frc import frc_curve, frc_resolution_px


def test_curves_and_resolutions(golden):
    numbers = load_file(golden / "pkl" / "frc.safetensors")
    for case in json.loads((golden / "pkl" / "frc.json").read_text())["frc"]:
        a, b = (numbers[f"frc.{case['index']}.{name}"][None, None] for name in "ab")
        curve = frc_curve(a, b)[0]
        torch.testing.assert_close(curve, numbers[f"frc.{case['index']}.curve"], rtol=0, atol=1e-9)
        assert float(frc_resolution_px(a, b)) == pytest.approx(case["resolution_px"], abs=1e-9)


def test_equal_pictures_agree_down_to_two_pixels_whatever_their_brightness():
    picture = torch.rand(2, 1, 20, 33, generator=torch.Generator().manual_seed(0))
    assert frc_curve(picture, 3 * picture + 5).min() > 1 - 1e-9
    assert frc_resolution_px(picture, 3 * picture + 5).tolist() == [2.0, 2.0]
    assert frc_curve(picture, torch.zeros_like(picture)).abs().max() == 0


def test_pictures_of_two_sizes_are_refused():
    with pytest.raises(ShapeError, match="of the same size"):
        frc_curve(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 9))
