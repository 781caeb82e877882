"""Every loss on any number of bands and axes: a value, a gradient, a mask; volumes have all axes, or slices."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import kornia
import pytest
import torch

from hypir_core.engines.pixel.network import build_network, save_pixel
from hypir_core.errors import ShapeError
from hypir_core.weights.pixel_spec import PixelSpec
from tests.train.loss_terms import SMALL, compared, extractor, number, pictures, term
from train.config import Domain, LossConfig
from train.losses import LOSSES, WeightedLoss, works_of

__all__ = ["extractor"]

TWO_AXES = {
    *("checkerboard", "lpips", "vgg19", "spectral", "pyramid", "multi_scale_frequency", "log_fourier"),
    *("high_frequency", "haar", "frequency_bands", "cross_resolution", "features"),
}


@cache
def small_denoiser(bands: int) -> Path:
    """Return the file of a diffusion model of so many channels."""
    pytest.importorskip("diffusers", reason="the network is the one of diffusers")
    torch.manual_seed(0)
    spec = PixelSpec(
        name="small",
        options={"channels": (8, 8), "layers": 1, "groups": 4},
        channels=bands,
        trained_on="nothing",
        trained_with="a test",
        licence="CC0",
    )
    path = Path(tempfile.mkdtemp()) / f"{bands}.safetensors"
    save_pixel(path, build_network(spec, where="test").state_dict(), spec)
    return path


def options_of(name: str, bands: int) -> dict[str, Any]:
    if name == "custom":
        return {"target": "features_of_mine:Blurred"}
    if name == "features":
        return {"weights": str(small_denoiser(bands))}
    see = {"channels": [0, min(1, bands - 1), bands - 1]} if name in {"lpips", "vgg19"} and bands != 3 else {}
    return SMALL.get(name, {}) | see


@pytest.mark.parametrize("name", LOSSES.names())
def test_every_loss_goes_forward_and_backward_on_any_bands_and_axes(name):
    loss: Any = None
    for bands in (1, 2, 3, 4, 6, 13):
        for dims in (2, 3):
            side = 34 if name == "lpips" else 12
            sizes = (side,) * dims if dims == 2 else (8 if name not in TWO_AXES else 2, side, side)
            image, target = pictures(2 if dims == 2 else 1, bands, *sizes)
            slices = [0] if dims == 3 and name in TWO_AXES else []
            if name == "lpips" and loss is not None:  # one network is enough
                loss.loss._channels = tuple(options_of(name, bands).get("channels", (0, 1, 2)))
                loss = WeightedLoss(
                    "lpips", loss.loss, 1.0, loss.ramp, LossConfig(slices=tuple(slices)), loss.works
                )
            else:
                loss = term(name, options=options_of(name, bands), slices=slices)
            value = loss.of(compared(image.requires_grad_(), target))
            (gradient,) = torch.autograd.grad(value, image)
            assert value.shape == ()
            assert bool(torch.isfinite(value))
            assert bool(torch.isfinite(gradient).all())
            if (name, bands) not in {("sam", 1), ("spectral_angle", 1)}:  # one band has no angle
                assert number(value) > 0
                assert number(gradient.abs().max()) > 0, (bands, dims)


@pytest.mark.parametrize("name", LOSSES.names())
def test_no_gradient_comes_from_what_is_not_valid_even_where_it_is_not_a_number(name):
    bands, side = 3, 34 if name == "lpips" else 16
    image, target = pictures(1, bands, side, side)
    valid = torch.ones(1, 1, side, side, dtype=torch.bool)
    valid[..., :5, 3:9] = False
    broken, hidden = image.clone(), target.clone()
    broken[..., 0, 4], hidden[..., 1, 5] = float("nan"), float("inf")
    loss = term(name, options=options_of(name, bands))
    value = loss.of(compared(broken.requires_grad_(), hidden, valid=valid))
    (gradient,) = torch.autograd.grad(value, broken)
    assert bool(torch.isfinite(value))
    assert number((gradient * ~valid).abs().max()) == 0
    assert number(gradient.abs().max()) > 0
    nothing = loss.of(compared(broken, hidden, valid=torch.zeros_like(valid)))
    assert number(nothing) == 0
    seen = term(name, options=options_of(name, bands), masked=False).of(compared(image, target, valid=valid))
    assert number(seen) == pytest.approx(number(loss.of(compared(image, target))))


@pytest.mark.parametrize("name", ["l1", "l2", "huber", "charbonnier", "histogram", "sam"])
def test_the_masked_mean_is_the_mean_over_the_valid_pixels(name):
    image, target = pictures(1, 4, 6, 8)
    valid = torch.zeros(1, 1, 6, 8, dtype=torch.bool)
    valid[..., :4] = True
    loss = term(name)
    alone = loss.of(compared(image[..., :4], target[..., :4]))
    offset = works_of(LOSSES.get("sam")).domain is Domain.file and name == "sam"
    # Equal spectra count 4.9e-4 for sam.
    assert number(loss.of(compared(image, target, valid=valid))) == pytest.approx(
        number(alone), abs=6e-4 if offset else 1e-6
    )


def test_ssim_of_volumes_equals_kornias():
    image, target = pictures(1, 2, 12, 13, 14)
    whole = kornia.metrics.ssim3d(image, target, 7, max_val=1.0, padding="valid")
    got = term("ssim", domain="unit", options={"window": 7}).of(compared(image, target))
    assert number(got) == pytest.approx(1 - number(whole.mean()), abs=1e-5)


def test_gradient_and_tv_see_every_axis():
    flat = torch.zeros(1, 1, 4, 5, 6)
    for axis, size in ((2, 4), (3, 5), (4, 6)):
        ramp = (
            torch.linspace(0, size - 1, size)
            .view([size if n == axis else 1 for n in range(5)])
            .expand_as(flat)
        )
        for name in ("gradient", "tv"):
            assert number(LOSSES.get(name)(ramp, flat)) == pytest.approx(1.0, rel=1e-5)
    one = torch.rand(1, 1, 1, 5, 6)
    assert torch.equal(
        LOSSES.get("gradient")(one, one * 0), LOSSES.get("gradient")(one[:, :, 0], one[:, :, 0] * 0)
    )
    dot = torch.rand(1, 1, 1, 1)
    assert number(LOSSES.get("tv")(dot, dot)) == 0


def test_slices_are_the_planes_across_an_axis_and_their_mean():
    image, target = pictures(1, 2, 3, 9, 10)
    z = term("ssim", slices=[0], options={"window": 5}).of(compared(image, target))
    planes = [
        number(term("ssim", options={"window": 5}).of(compared(image[:, :, i], target[:, :, i])))
        for i in range(3)
    ]
    assert number(z) == pytest.approx(sum(planes) / 3, abs=1e-6)
    both = term("l2", slices=[0, 2]).of(compared(image, target))
    assert number(both) == pytest.approx(number(term("l2").of(compared(image, target))), rel=1e-5)


def test_a_loss_that_takes_pictures_refuses_a_volume_without_slices():
    image, target = pictures(1, 3, 4, 16, 16)
    with pytest.raises(
        ShapeError, match=r"checkerboard: takes 2 spatial axes, got 3; set losses\.checkerboard\.slices"
    ):
        term("checkerboard", options=SMALL["checkerboard"]).of(compared(image, target))


def test_the_histogram_loss_is_zero_for_permuted_pixels_and_falls_under_optimisation():
    loss = LOSSES.get("histogram")
    _, target = pictures(2, 5, 7, 8)
    shuffled = target.flatten(2)[..., torch.randperm(56, generator=torch.Generator().manual_seed(1))]
    assert number(loss(shuffled.view_as(target), target)) == 0
    moved = torch.tensor([[[[0.0, 0.5], [1.0, 0.25]]]])
    assert number(loss(moved + 0.125, moved)) == pytest.approx(0.125)
    image = torch.rand(target.shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
    before = number(loss(image, target))
    for _ in range(20):
        (gradient,) = torch.autograd.grad(loss(image, target), image)
        image = (image - 5 * gradient).detach().requires_grad_()
    assert number(loss(image, target)) < before / 2
