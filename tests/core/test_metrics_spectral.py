"""SAM, ERGAS and consistency of any bands and axes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import (
    error_relative_global_dimensionless_synthesis,
    spectral_angle_mapper,
)

from hypir_core.errors import ShapeError
from hypir_core.metrics.fidelity import psnr
from hypir_core.metrics.spectral import consistency, ergas, sam

SHAPES = [(2, 1, 5, 6), (2, 2, 7), (1, 4, 5, 6), (2, 13, 3, 4, 5)]


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    truth = torch.rand(*shape, generator=g) + 0.1
    return truth + 0.05 * torch.rand(*shape, generator=g), truth


def test_they_equal_torchmetrics_on_pictures():
    image, truth = pair(1, 4, 20, 24)
    assert float(sam(image, truth)) == pytest.approx(float(spectral_angle_mapper(image, truth)), abs=1e-5)
    theirs = error_relative_global_dimensionless_synthesis(image, truth, ratio=4)
    assert float(ergas(image, truth, scale=4)) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_pictures_any_bands_any_axes(shape):
    image, truth = pair(*shape)
    assert sam(truth, truth).abs().max() < 1e-6
    assert sam(truth * 3, truth).abs().max() < 1e-6
    assert ergas(truth, truth, scale=2).tolist() == [0.0] * shape[0]
    assert torch.isinf(psnr(truth, truth)).all()
    if shape[1] > 1:
        assert (sam(image, truth) > 0).all()
    assert (ergas(image, truth, scale=2) > 0).all()
    each = [float(ergas(image[i : i + 1], truth[i : i + 1], scale=2)) for i in range(shape[0])]
    assert ergas(image, truth, scale=2).tolist() == pytest.approx(each)


def test_angles_at_the_edges():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [-1.0, 0.0], [1.0, 1e-4]]).view(5, 2, 1)
    y = torch.tensor([1.0, 0.0]).view(1, 2, 1).expand(5, 2, 1)
    found = sam(x, y).tolist()
    assert found == pytest.approx([0, math.pi / 2, math.pi / 2, math.pi, 1e-4], abs=3e-7)


@pytest.mark.parametrize("factors", [(2,), (1, 4), (2, 3), (1, 2, 2)])
def test_consistency_is_zero_for_what_was_shrunk_and_tells_a_shift_of_brightness(factors):
    low = torch.rand(2, 3, *(4,) * len(factors))
    image = low
    for axis, factor in enumerate(factors):
        image = image.repeat_interleave(factor, dim=2 + axis)
    assert consistency(image, low).abs().max() < 1e-7
    assert consistency(image + 0.125, low).tolist() == pytest.approx([0.125] * 2, rel=1e-5)
    with pytest.raises(ShapeError, match="whole multiples"):
        consistency(image[..., 1:] if factors[-1] > 1 else image[:, 1:], low)


def test_what_is_not_valid_does_not_count():
    image, truth = pair(2, 4, 5, 6)
    valid = torch.ones(2, 1, 5, 6, dtype=torch.bool)
    valid[..., 4:] = False
    broken = image.clone()
    broken[..., 5] = float("nan")
    inside = (image[..., :4], truth[..., :4])
    torch.testing.assert_close(sam(broken, truth, valid=valid), sam(*inside))
    torch.testing.assert_close(ergas(broken, truth, scale=4, valid=valid), ergas(*inside, scale=4))
    torch.testing.assert_close(
        consistency(broken, truth, valid=valid), (image - truth)[..., :4].abs().mean((1, 2, 3))
    )
    assert torch.isnan(sam(image, truth, valid=valid & False)).all()


def test_a_dark_band_makes_ergas_infinite_only_where_it_is_wrong():
    truth = torch.zeros(1, 2, 3, 3)
    truth[:, 1] = 1.0
    assert ergas(truth, truth, scale=2).tolist() == [0.0]
    assert ergas(truth + 0.1, truth, scale=2).tolist() == [float("inf")]
    with pytest.raises(ShapeError, match="of the same shape"):
        ergas(truth, truth[..., 1:], scale=2)


def test_psnr_of_volumes():
    truth = torch.zeros(1, 2, 3, 4, 5)
    assert float(psnr(truth + 0.1, truth)) == pytest.approx(20, abs=1e-4)
    assert float(psnr(truth + 0.1, truth, crop_px=1)) == pytest.approx(20, abs=1e-4)
    assert np.isfinite(float(psnr(truth + 0.1, truth)))
