"""Discriminators and generators of remote-sensing GANs in training: norms, feature heads, files, a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import train as training
from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.errors import ConfigError, ShapeError, SpecMismatchError, UnknownNameError
from train.config import load_config
from train.discriminators import DISCRIMINATORS
from train.discriminators.feature_matching import feature_matching
from train.discriminators.patchgan import Norm, PatchGanDiscriminator, PatchGanOptions
from train.discriminators.weights_file import file_tensors, read_discriminator, write_discriminator
from train.opensr_config import describe_discriminator, discriminator_of
from train.run.building import build
from train.run.recipe import train

PRESETS = Path(training.__file__).parent / "presets"

TINY = {
    "standard": {"features": 2, "blocks": 4, "pool_cells": 2, "hidden": 3},
    "patchgan": {"features": 2, "layers": 2},
    "esrgan": {"features": 2, "hidden": 3},
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def made(name: str, **more) -> nn.Module:
    torch.manual_seed(0)
    make = DISCRIMINATORS.get(name)
    return make(make.Options(**TINY[name], **more))


@torch.no_grad()
@pytest.mark.parametrize("name", ["standard", "esrgan"])
@pytest.mark.parametrize("dims", [2, 3])
def test_spectral_norm_holds_every_layer_at_a_gain_of_1(name, dims):
    net = made(name, dims=dims)
    image = torch.rand(2, 3, *(9,) * dims)
    for _ in range(60):
        net(image)
    net.eval()(image)
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d, nn.Linear))]
    assert all(hasattr(layer, "weight_orig") for layer in layers)
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", TINY)
def test_feature_heads_teach_only_the_generator(name):
    net = made(name, in_channels=4)
    image, target = torch.rand(2, 4, 24, 16, requires_grad=True), torch.rand(2, 4, 24, 16)
    net.eval()
    assert net(target).features == []
    fake, real = (net(x, with_features=True).features for x in (image, target))
    assert len(fake) >= 4 - (name == "patchgan")
    assert len({tuple(feature.shape) for feature in fake}) > 2  # of several sizes
    term = feature_matching(fake, real)
    term.backward()
    assert image.grad is not None
    assert float(image.grad.abs().sum()) > 0
    assert float(feature_matching(fake, fake).detach()) == 0


@pytest.mark.parametrize(("layers", "field_px"), [(2, 34), (3, 70), (4, 142), (5, 286)])
def test_a_logit_of_patchgan_sees_what_the_option_says(layers, field_px):
    net = PatchGanDiscriminator(PatchGanOptions(features=2, layers=layers, norm=Norm.none)).eval()
    image = torch.rand(1, 3, 384, 6 * 2**layers, requires_grad=True)
    (logits,) = net(image).logits
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert image.grad is not None
    assert int((image.grad.abs().sum((0, 1, 3)) > 0).sum()) == field_px


def test_crops_that_leave_nothing_are_refused_with_the_keys_to_change():
    with pytest.raises(
        ShapeError, match=r"at least 12 px a side, got \(12, 11\); raise data.crop_px, or lower its l"
    ):
        made("patchgan")(torch.rand(1, 3, 12, 11))
    with pytest.raises(ShapeError, match=r"got \(1, 16, 16\)"):  # a volume of one slice
        made("patchgan", dims=3)(torch.rand(1, 3, 1, 16, 16))
    made("patchgan")(torch.rand(1, 3, 12, 12))


@pytest.mark.parametrize("name", TINY)
def test_a_file_gives_the_discriminator_back(tmp_path, name):
    net, other = made(name), made(name)
    for tensor in net.state_dict().values():
        tensor.copy_(torch.rand_like(tensor) if tensor.is_floating_point() else tensor + 3)
    write_discriminator(tmp_path / "d.safetensors", file_tensors(net))
    read_discriminator(other, tmp_path / "d.safetensors", key="discriminators.d.weights")
    torch.testing.assert_close(other.state_dict(), net.state_dict(), atol=0, rtol=0)
    with pytest.raises(
        SpecMismatchError, match=r"discriminators\.d\.weights: .* does not fit the discriminator"
    ):
        read_discriminator(
            made(name, in_channels=4), tmp_path / "d.safetensors", key="discriminators.d.weights"
        )


@torch.no_grad()
@pytest.mark.parametrize("name", ["standard", "esrgan"])
def test_a_crop_of_any_size_from_32_on_gets_one_logit(name):
    make = DISCRIMINATORS.get(name)
    options = {"features": 2, "hidden": 3} | ({"blocks": 8} if name == "standard" else {})
    net = make(make.Options(**options, in_channels=4)).eval()
    for sides in ((32, 32), (33, 47), (64, 40)):
        (logits,) = net(torch.rand(2, 4, *sides)).logits
        assert logits.shape == (2, 1)


def settings(**section) -> dict:
    return {"Model": {"in_bands": 3}, "Discriminator": section}


@pytest.mark.parametrize(
    ("config", "kind", "said"),
    [
        (settings(n_block=3), ConfigError, "unknown key 'n_block'.*n_blocks"),
        (settings(model_type="patch"), UnknownNameError, "did you mean 'patchgan'"),
        (
            settings(base_channels="x", model_type="esrgan"),
            ConfigError,
            "base_channels must be a whole number",
        ),
        (
            settings(model_type="patchgan", norm_type="layer"),
            ConfigError,
            "norm: .*'instance', 'batch' or 'none'",
        ),
        ({"Discriminator": {}}, ConfigError, "section 'Model'"),
        ({"Model": {"in_bands": 3}}, ConfigError, "section 'Discriminator'"),
    ],
)
def test_settings_that_describe_no_discriminator_are_refused(config, kind, said):
    with pytest.raises(kind, match=said):
        discriminator_of(config)


def test_the_originals_defaults_and_what_has_no_effect():
    names = discriminator_of(settings(n_blocks=1)).state_dict()
    assert any(name.endswith("weight_orig") for name in names)  # spectral norm without being asked for
    found = describe_discriminator(settings(model_type="ESRGAN", n_blocks=8, use_spectral_norm=False))
    assert found.notes == ("Discriminator: n_blocks, use_spectral_norm have no effect for esrgan",)


def preset(tmp_path: Path, name: str, options: str) -> Path:
    """Return the smallest preset with another generator."""
    text = (PRESETS / "tiny_cpu_pixel.yaml").read_text()
    other = text.replace("name: compact", f"name: {name}")
    other = other.replace("options: {features: 8, blocks: 2, scale: 2}", f"options: {options}")
    assert name in other
    assert options in other
    (tmp_path / "preset.yaml").write_text(other)
    return tmp_path / "preset.yaml"


@pytest.mark.tiny
def test_a_run_with_these_networks_exports_what_restores(photos, tmp_path):
    config = load_config(
        preset(tmp_path, "stochastic", "{channels: 4, blocks: 1, head_kernel: 3, noise_dim: 3, scale: 2}"),
        [
            f"data.root={photos}",
            f"output_dir={tmp_path / 'run'}",
            "max_steps=2",
            "discriminators={s: {name: standard, options: {features: 2, blocks: 3, pool_cells: 2, hidden: 3}, "
            "feature_matching: {weight: 0.5}, r1: {gamma: 1, every: 1}}, "
            "e: {name: esrgan, options: {features: 2, hidden: 3}, loss: relativistic, optimiser: {lr: 1e-4}}}",
        ],
    )
    train(config)
    engine = load_engine("upscaler", options={"weights": str(tmp_path / "run" / "generator.safetensors")})
    image_01 = torch.rand(1, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    request = Request(target=TargetSize(scale=2), seed=5)
    assert restore(engine, image_01, request, Runtime()).image_01.shape == (1, 3, 18, 22)
    assert (tmp_path / "run" / "discriminator_e.safetensors").is_file()


def test_pictures_are_no_volumes(photos, tmp_path):
    path = preset(tmp_path, "esrgan", "{channels: 4, blocks: 1, growth: 2, dims: 3}")
    config = load_config(path, [f"data.root={photos}", f"output_dir={tmp_path}", "max_steps=1"])
    with pytest.raises(ConfigError, match=r"takes 3 axes; set data\.source\.kind to scenes"):
        build(config)
