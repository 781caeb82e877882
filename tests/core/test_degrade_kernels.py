import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, special

from hypir_core.degrade.filtering import filter_image
from hypir_core.degrade.kernels import (
    gaussian_kernel,
    generalized_gaussian_kernel,
    plateau_kernel,
    sinc_kernel,
)

ODD = st.sampled_from([1, 3, 7, 13, 21])
SIGMA = st.floats(0.2, 3.0)


def loop_kernel(size, value):
    """Evaluate value(x, y) pixel by pixel and normalise."""
    out = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            out[row, column] = value(column - size // 2, row - size // 2)
    return out / out.sum()


def quadratic_form(x, y, sigma_x, sigma_y, angle):
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    covariance = turn @ np.diag([sigma_x**2, sigma_y**2]) @ turn.T
    d = np.array([x, y])
    return d @ np.linalg.inv(covariance) @ d


def close(kernel, expected):
    np.testing.assert_allclose(kernel.numpy(), expected, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(ODD, SIGMA, SIGMA, st.floats(-math.pi, math.pi))
def test_gaussian_is_its_closed_form(size, sx, sy, angle):
    expected = loop_kernel(size, lambda x, y: math.exp(-quadratic_form(x, y, sx, sy, angle) / 2))
    close(gaussian_kernel(size, sx, sy, angle)[0], expected)


@settings(max_examples=25, deadline=None)
@given(ODD, SIGMA, SIGMA, st.floats(-math.pi, math.pi), st.floats(0.5, 4.0))
def test_generalized_and_plateau_are_their_closed_forms(size, sx, sy, angle, beta):
    def q(x, y):
        return quadratic_form(x, y, sx, sy, angle)

    close(
        generalized_gaussian_kernel(size, sx, sy, angle, beta=beta)[0],
        loop_kernel(size, lambda x, y: math.exp(-(q(x, y) ** beta) / 2)),
    )
    close(
        plateau_kernel(size, sx, sy, angle, beta=beta)[0],
        loop_kernel(size, lambda x, y: 1 / (1 + q(x, y) ** beta)),
    )


@settings(max_examples=25, deadline=None)
@given(ODD, st.floats(math.pi / 5, math.pi))
def test_sinc_is_its_closed_form(size, omega):
    def value(x, y):
        r = math.hypot(x, y)
        return omega**2 / (4 * math.pi) if r == 0 else omega * special.j1(omega * r) / (2 * math.pi * r)

    close(sinc_kernel(size, omega)[0], loop_kernel(size, value))


def test_a_batch_of_parameters_is_the_single_kernels_and_sums_to_one():
    sx, sy = torch.tensor([0.3, 1.0, 2.5]), torch.tensor([2.0, 1.0, 0.4])
    angle, beta = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([0.6, 1.0, 3.0])
    for batch, one in (
        (gaussian_kernel(15, sx, sy, angle), lambda i: gaussian_kernel(15, sx[i], sy[i], angle[i])),
        (
            plateau_kernel(15, sx, sy, angle, beta=beta),
            lambda i: plateau_kernel(15, sx[i], sy[i], angle[i], beta=beta[i]),
        ),
        (sinc_kernel(15, sx + 0.7), lambda i: sinc_kernel(15, sx[i] + 0.7)),
    ):
        assert batch.shape == (3, 15, 15)
        assert batch.dtype == torch.float32
        torch.testing.assert_close(batch.sum((1, 2)), torch.ones(3), rtol=0, atol=1e-6)
        for i in range(3):
            torch.testing.assert_close(batch[i], one(i)[0])


def test_convention_positive_angle_turns_x_towards_y():
    kernel = gaussian_kernel(21, 4.0, 0.5, math.pi / 4)[0]
    assert kernel[15, 15] > 100 * kernel[15, 5]  # down and right of the centre, not down and left
    quarter_turn = gaussian_kernel(21, 4.0, 0.5, math.pi / 2)[0]
    torch.testing.assert_close(quarter_turn, gaussian_kernel(21, 0.5, 4.0)[0])


@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (5, 3), (17, 23), (64, 61)])
@pytest.mark.parametrize("size", [1, 7, 21])
def test_filter_equals_direct_convolution_with_mirrored_borders(hw, size):
    g = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, *hw, generator=g)
    kernel = torch.rand(size, size, generator=g)
    kernel /= kernel.sum()
    expected = np.stack(
        [[ndimage.convolve(c.numpy(), kernel.numpy(), mode="mirror") for c in sample] for sample in image]
    )
    np.testing.assert_allclose(filter_image(image, kernel).numpy(), expected, atol=2e-6)
