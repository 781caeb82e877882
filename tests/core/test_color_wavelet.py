"""The wavelet low-pass against closed forms and an independent convolution."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hypir_core.color.wavelet import low_frequencies, reach_px, wavelet_color_fix
from hypir_core.errors import ShapeError

BINOMIAL_3X3 = np.outer([1, 2, 1], [1, 2, 1]) / 16


def low_by_convolution(image: np.ndarray, levels: int) -> np.ndarray:
    """The definition: 3×3 kernels with holes, replicate border, level by level, in float64."""
    for level in range(levels):
        step = 2**level
        kernel = np.zeros((2 * step + 1, 2 * step + 1))
        kernel[::step, ::step] = BINOMIAL_3X3
        image = ndimage.convolve(image, kernel, mode="nearest")
    return image


@pytest.mark.parametrize(("height", "width"), [(40, 33), (1, 50), (7, 1), (1, 1), (13, 97)])
def test_low_frequencies_are_the_dilated_binomial_convolutions(height, width):
    image = np.random.default_rng(3).random((height, width))
    ours = low_frequencies(torch.from_numpy(image)[None, None], 5)[0, 0].numpy()
    np.testing.assert_allclose(ours, low_by_convolution(image, 5), atol=1e-12)


def test_impulse_response_has_gain_1_reach_31_and_the_variance_of_five_binomials():
    impulse = torch.zeros(1, 1, 129, 129, dtype=torch.float64)
    impulse[..., 64, 64] = 1
    response = low_frequencies(impulse)[0, 0]
    offsets = torch.arange(129, dtype=torch.float64) - 64
    profile = response.sum(0)
    assert response.sum().item() == pytest.approx(1, abs=1e-12)
    assert (profile * offsets).sum().item() == pytest.approx(0, abs=1e-12)
    # [1 2 1]/4 with taps d apart has variance d²/2; variances of successive blurs add up.
    expected = math.sqrt(sum(4**level / 2 for level in range(5)))
    assert (profile * offsets**2).sum().sqrt().item() == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(13.06, abs=0.005)
    assert offsets[profile != 0].abs().max().item() == reach_px() == 31


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.integers(1, 5),
    levels=st.integers(0, 6),
    value=st.floats(-1, 2, width=32),
)
@settings(max_examples=30, deadline=None)
def test_a_flat_picture_passes_unchanged_at_any_size(height, width, channels, levels, value):
    image = torch.full((1, channels, height, width), value)
    torch.testing.assert_close(low_frequencies(image, levels), image, atol=1e-6, rtol=0)


def test_the_result_has_the_low_frequencies_of_the_reference_and_the_detail_of_the_content():
    generator = torch.Generator().manual_seed(1)
    content, reference = torch.rand(2, 2, 3, 80, 70, generator=generator)
    fixed = wavelet_color_fix(content, reference)
    expected = content - low_frequencies(content) + low_frequencies(reference)
    torch.testing.assert_close(fixed, expected, atol=1e-6, rtol=0)


def test_content_equal_to_the_reference_stays_bit_for_bit():
    content = torch.rand(1, 3, 50, 60, generator=torch.Generator().manual_seed(2))
    assert torch.equal(wavelet_color_fix(content, content.clone()), content)


def test_a_colour_cast_is_removed_and_half_precision_becomes_float32():
    reference = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4)) * 0.5
    cast = reference + torch.tensor([0.2, -0.1, 0.05]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(wavelet_color_fix(cast, reference), reference, atol=1e-6, rtol=0)
    assert wavelet_color_fix(cast.half(), reference.half()).dtype == torch.float32


def test_gradients_reach_both_pictures():
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(1, 1, 5, 6, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: low_frequencies(x, 3), (image,))


def test_sizes_must_agree():
    with pytest.raises(ShapeError, match=r"\[1, 3, 8, 8\] and \[1, 3, 8, 9\]; resize"):
        wavelet_color_fix(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))
