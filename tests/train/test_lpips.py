"""LPIPS without its downloads: on random backbones, which leave its formula as it is."""

from __future__ import annotations

from pathlib import Path

import lpips
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torchvision.models import alexnet

from hypir_core.errors import ConfigError, ShapeError, SpecMismatchError, WeightsNotFoundError
from train.config import LossConfig, LpipsConfig, LpipsNet, ValidationConfig
from train.losses import build_losses
from train.losses.perceptual import Lpips
from train.run.validation import fixed_pairs, validate

RANDOM = LpipsConfig(net=LpipsNet.alex, pretrained=False)


def pictures(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.rand(*shape, generator=g, dtype=dtype) * 2 - 1 for _ in range(2))


@pytest.fixture(scope="module")
def loss() -> Lpips:
    return Lpips(RANDOM, key="losses.lpips.options")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Sequential, Path]:
    """A random AlexNet and its file in torchvision's layout."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        features = alexnet(weights=None).features.eval()
    path = tmp_path_factory.mktemp("lpips") / "alexnet.safetensors"
    save_file({f"features.{name}": tensor for name, tensor in features.state_dict().items()}, path)
    return features, path


def test_formula_on_the_layers_of_the_backbone_file(backbone):
    """Σ over layers of w · (û − v̂)², spatial mean; û is the feature over its norm along the channels (eq. 1)."""
    features, path = backbone
    image, target = pictures(2, 3, 40, 33)
    file = Path(lpips.__file__).parent / "weights/v0.1/alex.pth"
    linear = torch.load(file, map_location="cpu", weights_only=True)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    expected = torch.zeros(2)
    x, y, level = (image - mean) / std, (target - mean) / std, 0
    for number, layer in enumerate(features[:12]):
        x, y = layer(x), layer(y)
        if number in {1, 4, 7, 9, 11}:
            difference = (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square()
            expected += (difference * linear[f"lin{level}.model.1.weight"]).sum(1).mean((1, 2))
            level += 1
    loss = Lpips(LpipsConfig(net=LpipsNet.alex, backbone=path), key="k")
    torch.testing.assert_close(loss(image, target), expected.mean().detach())


def test_zero_at_equality_and_positive_elsewhere(loss):
    image, target = pictures(2, 3, 35, 41)
    assert float(loss(image, image.clone())) == 0
    assert float(loss(image, target)) > 1e-3


def test_gradient_equals_finite_differences():
    double = Lpips(RANDOM, key="k")
    double.network.double()
    image, target = pictures(1, 3, 32, 32, dtype=torch.float64)
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    image.requires_grad_()
    (gradient,) = torch.autograd.grad(double(image, target), image)
    with torch.no_grad():
        ahead, behind = (double(image + sign * 1e-5 * direction, target) for sign in (1, -1))
    assert float((gradient * direction).sum()) == pytest.approx(float((ahead - behind) / 2e-5), rel=1e-4)


def test_the_network_learns_nothing_and_leaves_the_random_state_alone(loss):
    assert not any(p.requires_grad for p in loss.network.parameters())
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    again = Lpips(RANDOM, key="k")
    assert torch.equal(torch.rand(2), expected)
    for name, tensor in loss.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)


def test_too_small_images_are_refused(loss):
    with pytest.raises(ShapeError, match=r"at least 31 px a side, got \(30, 40\)"):
        loss(*pictures(1, 3, 30, 40))


def test_without_network_the_error_names_the_key_and_the_place(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(
        WeightsNotFoundError, match=r"losses\.lpips\.options: .*checkpoints/vgg16-397923af\.pth.*\.backbone"
    ):
        build_losses({"lpips": LossConfig()})


def test_wrong_backbones_and_options_are_named(backbone):
    _, path = backbone
    with pytest.raises(SpecMismatchError, match=r"options\.backbone: .*vgg16-397923af\.pth"):
        build_losses({"lpips": LossConfig(options={"net": "vgg", "backbone": str(path)})})
    with pytest.raises(ConfigError, match=r"unknown key 'backbon' \(did you mean 'backbone'"):
        build_losses({"lpips": LossConfig(options={"backbon": "x"})})
    with pytest.raises(ConfigError, match=r"best must be one of psnr_y, ssim, got 'lpips'; set lpips"):
        ValidationConfig(root=Path(), best="lpips")


def test_validation_measures_it_and_takes_less_for_better(photos):
    config = ValidationConfig(
        root=photos, count=2, recipes=("bicubic",), images=1, lpips=RANDOM, best="lpips"
    )
    pairs = fixed_pairs(config, scale=2, grain_px=2)
    perfect, grey = (validate(pairs, each) for each in (lambda b: b.hq, lambda b: b.hq * 0 + 0.5))
    assert perfect.scalars["val/bicubic/lpips"] == 0
    assert perfect.scalars["val/bicubic/lpips_gain"] > 0 > grey.scalars["val/bicubic/lpips_gain"]
    assert perfect.score == 0 > grey.score
