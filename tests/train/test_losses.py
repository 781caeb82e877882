from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.autograd import gradcheck
from torchmetrics.functional.image import structural_similarity_index_measure

from hypir_core.errors import ConfigError, ShapeError, UnknownNameError
from train.config import LossConfig
from train.losses import LOSSES, build_losses
from train.ramps import Ramp, RampShape


def pictures(
    *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    a = torch.rand(*shape, generator=g, dtype=dtype) * 2 - 1
    return a, (a + 0.3 * torch.randn(*shape, generator=g, dtype=dtype)).clamp(-1, 1)


OWN_TESTS = {"lpips", "vgg19", "custom", "features", "sam", "poisson_nll"}
"""Networks, and those that are not zero at equality."""
FUNCTIONS = [name for name in LOSSES.names() if name not in OWN_TESTS]
SMALL = {"checkerboard": {"window": 2}, "ms_ssim": {"scales": 2, "window": 5}}
"""Options for the small pictures here."""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_zero_at_equality_and_positive_elsewhere(name):
    image, target = pictures(2, 3, 24, 20)
    loss = partial(LOSSES.get(name), **SMALL.get(name, {}))
    assert float(loss(image, image.clone())) == pytest.approx(0, abs=1e-6)
    assert (
        float(loss(target + torch.randn(target.shape, generator=torch.Generator().manual_seed(1)), image))
        > 1e-3
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name):
    image, target = pictures(1, 3 if name == "spectral_angle" else 1, 11, 11, dtype=torch.float64)
    loss = partial(LOSSES.get(name), **SMALL.get(name, {}))
    assert gradcheck(lambda x: loss(x, target), image.requires_grad_(), eps=1e-6, atol=1e-5, rtol=1e-3)


def test_ms_ssim_multiplies_the_scales():
    """One scale is SSIM; of flat pictures, which have no contrast, only the luminance of the coarsest is left."""
    image, target = pictures(1, 1, 180, 200)
    one, plain = (
        float(LOSSES.get(n)(image, target, **o)) for n, o in (("ms_ssim", {"scales": 1}), ("ssim", {}))
    )
    assert one == pytest.approx(plain, abs=1e-6)
    a, b = (torch.full((1, 1, 180, 200), value) for value in (0.2, 0.6))
    luminance = (2 * 0.2 * 0.6 + 4e-4) / (0.2**2 + 0.6**2 + 4e-4)
    assert float(LOSSES.get("ms_ssim")(a, b)) == pytest.approx(1 - luminance**0.1333, abs=1e-4)
    with pytest.raises(ShapeError, match="lower its option scales"):
        LOSSES.get("ms_ssim")(image[..., :100], target[..., :100])
    with pytest.raises(ConfigError, match="scales must be 1 to 5"):
        LOSSES.get("ms_ssim")(image, target, scales=6)


def test_the_spectral_angle_is_blind_to_brightness():
    image, target = pictures(1, 4, 8, 8)
    darker = (target + 1) * 0.5 - 1  # half of the way from black
    angle = LOSSES.get("spectral_angle")
    assert float(angle(darker, target)) == pytest.approx(0, abs=1e-4)
    u, v = (torch.nn.functional.normalize(x.double() / 2 + 0.5, dim=1) for x in (image, target))
    assert float(angle(image, target)) == pytest.approx(
        float((u * v).sum(1).clamp(-1, 1).acos().mean()), abs=1e-4
    )


def test_known_numbers():
    image, target = torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, 1, 2, 2)
    values = {
        name: float(LOSSES.get(name)(image, target))
        for name in ("l1", "l2", "huber", "charbonnier", "gradient")
    }
    expected = {
        "l1": 0.5,
        "l2": 0.25,
        "huber": 0.1 * (0.5 - 0.05),
        "charbonnier": (0.25 + 1e-6) ** 0.5 - 1e-3,
        "gradient": 0,
    }
    assert values == pytest.approx(expected, rel=1e-5)


def test_ssim_equals_an_independent_implementation():
    image, target = pictures(2, 3, 40, 36)
    _, full = structural_similarity_index_measure(
        image, target, data_range=2.0, gaussian_kernel=True, return_full_image=True, reduction="none"
    )
    inside = full[..., 5:-5, 5:-5]
    assert float(LOSSES.get("ssim")(image, target)) == pytest.approx(1 - float(inside.mean()), abs=1e-5)


def test_ssim_refuses_pictures_below_its_window():
    with pytest.raises(ShapeError, match="at least 11 px"):
        LOSSES.get("ssim")(*pictures(1, 3, 8, 20))


def test_fourier_of_one_wave():
    """A cosine of amplitude A over n×n px has two peaks of A·n/2; half of the plane keeps one of them."""
    n, amplitude = 16, 0.5
    wave = amplitude * torch.cos(2 * torch.pi * 3 * torch.arange(n) / n).expand(1, 1, n, n)
    expected = amplitude * n / 2 / (n * (n // 2 + 1))
    assert float(LOSSES.get("fourier")(wave, torch.zeros_like(wave))) == pytest.approx(expected, rel=1e-3)


def test_gradient_is_blind_to_an_offset_and_tv_to_smoothness():
    image, target = pictures(1, 3, 16, 16)
    assert float(LOSSES.get("gradient")(image, image + 0.25)) == pytest.approx(0, abs=1e-6)
    assert float(LOSSES.get("tv")(torch.zeros_like(target), target)) == 0


def test_checkerboard_sees_a_grid_and_little_else():
    """A grid that adds A to one of 4×4 phases deviates by 15/16·A there and by A/16 in the 15 others."""
    target = pictures(1, 3, 64, 64)[1]
    grid = torch.zeros(64, 64)
    grid[1::4, 2::4] = 0.2
    loss = LOSSES.get("checkerboard")
    assert float(loss(target + grid, target)) == pytest.approx(0.2 * 30 / 256, rel=1e-4)
    assert float(loss(target + 0.2, target)) == pytest.approx(0, abs=1e-6)
    shuffled = grid.flatten()[torch.randperm(64 * 64, generator=torch.Generator().manual_seed(5))]
    assert float(loss(target + shuffled.reshape(64, 64), target, window=16)) < 0.25 * 0.2 * 30 / 256
    with pytest.raises(ShapeError, match="at least 16 px"):
        loss(target[..., :15], target[..., :15])


def test_weights_and_ramps_are_applied():
    ramp = Ramp(shape=RampShape.linear, start=10, length=10)
    entries = build_losses({"l1": LossConfig(weight=2.0, ramp=ramp), "l2": LossConfig(weight=0.0)})
    assert [entry.name for entry in entries] == ["l1"]
    assert [entries[0].weight_at(step) for step in (0, 15, 30)] == [0, 1.0, 2.0]


def test_unknown_losses_and_options_are_named():
    with pytest.raises(UnknownNameError, match="charbonnier"):
        build_losses({"charbonier": LossConfig()})
    with pytest.raises(ConfigError, match=r"losses\.huber\.options.*'detla'.*'delta'"):
        build_losses({"huber": LossConfig(options={"detla": 1.0})})
    with pytest.raises(ConfigError, match=r"losses\.huber\.options\.delta must be a number, got 'wide'"):
        build_losses({"huber": LossConfig(options={"delta": "wide"})})
