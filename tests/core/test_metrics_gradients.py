"""Measures on gradients: similarity, detail, the grid of a pixel shuffle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve

from hypir_core.errors import ShapeError
from hypir_core.metrics.gradients import detail_ratio, gmsd, grid_measure


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def test_gmsd_equals_its_definition_in_8_bit_levels(rng):
    """Written a second time from the paper, with scipy, on 0 to 255 where the constant is 170."""
    truth = torch.rand(1, 1, 32, 40, generator=rng)
    image = (truth + 0.2 * torch.randn(truth.shape, generator=rng)).clamp(0, 1)

    def magnitude(picture):
        levels = 16 + picture[0, 0].double().numpy() * (235 - 16)
        levels = levels.reshape(16, 2, 20, 2).mean((1, 3))
        prewitt = np.array([[1, 0, -1]] * 3) / 3
        dx, dy = convolve(levels, prewitt), convolve(levels, prewitt.T)
        return np.hypot(dx, dy)[1:-1, 1:-1]

    a, b = magnitude(image), magnitude(truth)
    expected = ((2 * a * b + 170) / (a**2 + b**2 + 170)).std()
    torch.testing.assert_close(float(gmsd(image, truth)), float(expected), rtol=1e-4, atol=0)


def test_they_know_equal_softer_and_rougher_pictures(rng):
    truth = torch.rand(2, 3, 32, 32, generator=rng)
    soft = torch.nn.functional.avg_pool2d(truth, 3, stride=1, padding=1)
    assert torch.equal(gmsd(truth, truth), torch.zeros(2))
    assert (gmsd(soft, truth) > 0.01).all()
    assert (detail_ratio(soft, truth) < 0.8).all()
    assert (detail_ratio(truth, soft) > 1.2).all()


def test_gmsd_refuses_pictures_of_two_sizes():
    with pytest.raises(ShapeError, match="of one size"):
        gmsd(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 17))


@pytest.mark.parametrize("shift", range(4))
def test_a_grid_is_seen_wherever_it_lies(rng, shift):
    plain = torch.rand(1, 3, 64, 64, generator=rng)
    assert grid_measure(plain) == pytest.approx(1, abs=0.05)
    blocks = torch.rand(1, 3, 17, 17, generator=rng).repeat_interleave(4, -1).repeat_interleave(4, -2)
    assert grid_measure(plain * 0.2 + blocks[..., shift : shift + 64, shift : shift + 64]) > 2
