import math

import numpy as np
import pytest
import skimage.data
import torch
from scipy import ndimage

from hypir_core.degrade.aging import fade, halftone, scratch
from hypir_core.degrade.choices import FadeDraw, HalftoneDraw, ScratchesDraw
from hypir_core.degrade.noise import add_gaussian_noise, add_poisson_noise, luma, photons_at_white
from hypir_core.degrade.parts import Sharpen
from hypir_core.degrade.sharpen import unsharp_mask


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("sigma_01", [2 / 255, 20 / 255])
@pytest.mark.parametrize("grey", [False, True])
def test_gaussian_noise_has_the_stated_deviation(sigma_01, grey):
    noise = add_gaussian_noise(
        torch.full((1, 3, 200, 200), 0.5), sigma_01=sigma_01, grey=grey, generator=rng()
    )
    noise = noise - 0.5
    assert noise.std().item() == pytest.approx(sigma_01, rel=0.02)
    assert abs(noise.mean().item()) < sigma_01 / 50
    between_channels = (noise[:, 0] - noise[:, 1]).abs().max().item()
    assert (between_channels == 0) == grey


@pytest.mark.parametrize("scale", [0.3, 1.0])
@pytest.mark.parametrize("grey", [False, True])
def test_poisson_noise_has_the_stated_variance(scale, grey):
    levels = torch.linspace(60, 180, 50).round()  # 50 distinct levels: 64 photons at white
    x = (levels / 255).repeat_interleave(400).reshape(1, 1, 50, 400).repeat(1, 3, 1, 1)
    noise = add_poisson_noise(x, scale=scale, grey=grey, generator=rng()) - x
    expected = scale**2 * x / 64
    assert noise.var().item() == pytest.approx(expected.mean().item(), rel=0.03)
    dark, bright = noise[..., :10, :].var().item(), noise[..., -10:, :].var().item()
    assert bright / dark == pytest.approx((x[..., -10:, :].mean() / x[..., :10, :].mean()).item(), rel=0.15)
    assert ((noise[:, 0] - noise[:, 2]).abs().max().item() < 1e-6) == grey


@pytest.mark.parametrize(("distinct", "photons"), [(1, 1), (2, 2), (3, 4), (64, 64), (65, 128), (256, 256)])
def test_photons_follow_the_number_of_levels(distinct, photons):
    assert photons_at_white(torch.arange(distinct).float().repeat(3)) == photons


def test_noise_is_clipped_and_repeatable():
    x = torch.rand(1, 3, 32, 32, generator=rng(3))
    for add in (
        lambda g: add_gaussian_noise(x, sigma_01=0.5, grey=False, generator=g),
        lambda g: add_poisson_noise(x, scale=3.0, grey=False, generator=g),
    ):
        noisy = add(rng(1))
        assert noisy.min().item() == 0
        assert noisy.max().item() == 1
        assert torch.equal(noisy, add(rng(1)))
        assert not torch.equal(noisy, add(rng(2)))


def test_unsharp_mask_is_the_published_formula():
    image = skimage.data.coffee()[50:150, 60:180].astype(np.float64) / 255
    taps = np.exp(-((np.arange(51) - 25) ** 2) / (2 * 8.0**2))
    taps /= taps.sum()

    def blurred(array):
        for axis in (0, 1):
            array = ndimage.convolve1d(array, taps, axis=axis, mode="mirror")
        return array

    detail = image - blurred(image)
    mask = blurred((np.abs(detail) * 255 > 10).astype(np.float64))
    expected = mask * np.clip(image + 0.5 * detail, 0, 1) + (1 - mask) * image
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    ours = unsharp_mask(x, Sharpen())[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - expected).mean() < 1e-5
    assert np.quantile(np.abs(ours - expected), 0.999) < 1e-3  # a pixel on the threshold may fall either side


def test_unsharp_mask_leaves_flat_areas_alone():
    x = 0.5 + 0.01 * torch.rand(1, 3, 40, 40, generator=rng())
    torch.testing.assert_close(unsharp_mask(x, Sharpen()), x, rtol=0, atol=1e-6)


def test_fade_maps_black_white_and_colour_where_it_says():
    colours = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0]]).T.reshape(1, 3, 1, 3)
    plain = fade(colours, FadeDraw(black=0.1, white=0.9, grey=0.0, warmth=0.0))
    torch.testing.assert_close(plain, 0.1 + 0.8 * colours)
    grey = fade(colours, FadeDraw(black=0.0, white=1.0, grey=1.0, warmth=0.0))
    torch.testing.assert_close(grey, luma(colours).expand(1, 3, 1, 3))
    red, green, blue = fade(colours, FadeDraw(black=0.1, white=0.9, grey=0.0, warmth=1.0))[
        0, :, 0, 1
    ].tolist()
    assert red == pytest.approx(0.9)
    assert red > green > blue


@pytest.mark.parametrize("tone", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("channels", [1, 3])
def test_halftone_keeps_the_mean_tone_and_prints_dots(tone, channels):
    x = torch.full((1, channels, 240, 240), tone)
    y = halftone(x, HalftoneDraw(period_px=5.3, strength=1.0, angle=0.05))
    assert y.mean().item() == pytest.approx(tone, abs=0.02)
    assert y.std().item() > 0.25
    unchanged = halftone(x, HalftoneDraw(period_px=5.3, strength=0.0, angle=0.05))
    torch.testing.assert_close(unchanged, x)


def test_scratches_mark_little_and_only_with_the_two_tones():
    x = torch.full((1, 3, 512, 400), 0.5)
    marked = scratch(x, ScratchesDraw(lines=3, specks=30, opacity=1.0, seed=4))
    touched = ((marked - x).abs() > 1e-3).float().mean().item()
    assert 0.0005 < touched < 0.05
    assert marked.min().item() >= 0.08 - 1e-6
    assert marked.max().item() <= 0.92 + 1e-6
    assert torch.equal(marked, scratch(x, ScratchesDraw(lines=3, specks=30, opacity=1.0, seed=4)))
    assert torch.equal(x, torch.full_like(x, 0.5))


@pytest.mark.parametrize("hw", [(1, 1), (1, 30), (30, 1), (9, 7)])
def test_scratches_fit_any_size(hw):
    for seed in range(20):
        y = scratch(torch.full((1, 1, *hw), 0.5), ScratchesDraw(lines=9, specks=90, opacity=0.9, seed=seed))
        assert torch.isfinite(y).all()
        assert math.prod(y.shape) == math.prod(hw)
