"""Generators and discriminators of opensr-srgan: its names, its numbers, its files (tests/golden/opensr/networks.md)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hypir_core.engines.feed_forward.opensr_checkpoint import generator_of
from hypir_core.weights.opensr_layout import layout_of
from tests.parity.opensr_fill import fill_
from train.opensr_config import discriminator_of

pytestmark = pytest.mark.parity

GOLDEN = Path(__file__).parents[1] / "golden" / "opensr"
ABOUT = json.loads((GOLDEN / "networks.json").read_text())
FULL_SIZE = {"config_10m", "config_20m", "paper_rgbnir"}


@pytest.fixture(scope="module")
def generators():
    return load_file(GOLDEN / "generators.safetensors")


@pytest.fixture(scope="module")
def discriminators():
    return load_file(GOLDEN / "discriminators.safetensors")


def has_the_names(net: nn.Module, case: dict) -> bool:
    shapes = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    text = json.dumps(shapes, sort_keys=True)
    return (len(shapes), zlib.crc32(text.encode())) == (case["tensors"], case["names_and_shapes_crc32"])


@torch.no_grad()
@pytest.mark.parametrize("name", ABOUT["generators"])
def test_generator(generators, name):
    case = ABOUT["generators"][name]
    net = generator_of(case["config"]).eval()
    assert has_the_names(net, case)
    fill_(net, f"{ABOUT['seed']}/generator/{name}")
    latent = [generators[f"{name}/noise"]] if name.startswith("stochastic") else []
    got, wanted = net(generators[f"{name}/input"], *latent), generators[f"{name}/output"]
    atol = 2e-4 * float(wanted.abs().max()) if name in FULL_SIZE else 1e-5
    torch.testing.assert_close(got, wanted, atol=atol, rtol=0)
    found = layout_of(net.state_dict())
    assert found is not None
    options = net.options  # type: ignore[union-attr]
    stated = {key: getattr(options, key) for key in found[1]} | {"out_channels": options.makes}
    assert found[1] == stated


@torch.no_grad()
def test_batch_norms_take_the_batch_in_training(generators):
    net = fill_(
        generator_of(ABOUT["generators"]["standard_x4"]["config"]), f"{ABOUT['seed']}/generator/standard_x4"
    )
    got = net.train()(generators["standard_x4/input"])
    torch.testing.assert_close(got, generators["standard_x4/output_train_mode"], atol=1e-5, rtol=0)
    running = net.state_dict()["net.residual_blocks.0.conv_block1.conv_block.1.running_var"]
    wanted = generators["standard_x4/running_var_after_train_mode"]
    torch.testing.assert_close(running, wanted, atol=1e-5, rtol=0)


def test_a_file_of_the_originals_names_is_what_the_formula_gives():
    net = generator_of(ABOUT["generators"]["rcab_x2"]["config"])
    fill_(net, f"{ABOUT['seed']}/generator/rcab_x2")
    torch.testing.assert_close(dict(net.state_dict()), load_file(GOLDEN / "generator_rcab_x2.safetensors"))


@pytest.mark.parametrize(
    ("kind", "name", "spelling"),
    [
        (kind, name, spelling)
        for kind, names in ABOUT["icnr"]["aliases"].items()
        for name, spellings in names.items()
        for spelling in spellings
    ],
)
def test_every_spelling_of_the_original_is_understood(kind, name, spelling):
    sizes = {"n_channels": 4, "n_blocks": 1}
    expected = {
        "srresnet": "SRResNet",
        "standard": "SRResNet",
        "esrgan": "Esrgan",
        "stochastic_gan": "Stochastic",
    }
    for key in (kind, "model_type"):  # older files say the block as model_type
        net = generator_of({"Model": {"in_bands": 1}, "Generator": {key: spelling.upper(), **sizes}})
        assert type(net).__name__ == expected.get(name, "Residual")
        if name not in expected:
            assert net.options.block.value == name  # type: ignore[union-attr]


def test_esrgan_starts_small_and_without_checkerboard():
    torch.manual_seed(0)
    net = generator_of({"Model": {"in_bands": 3}, "Generator": {"model_type": "esrgan", "n_blocks": 1}})
    state = net.state_dict()
    wanted = ABOUT["icnr"]["conv_first_std"]
    assert float(state["conv_first.weight"].std()) == pytest.approx(wanted, rel=0.1)
    blocks = state["upsampler.0.weight"].unflatten(0, (-1, 4))
    assert (blocks == blocks[:, :1]).all()
    assert not state["upsampler.0.bias"].any()


@torch.no_grad()
@pytest.mark.parametrize("name", ABOUT["discriminators"])
def test_discriminator(discriminators, name):
    case, image = ABOUT["discriminators"][name], discriminators[f"{name}/input"]
    net = discriminator_of(case["config"])
    assert has_the_names(net, case)
    fill_(net, f"{ABOUT['seed']}/discriminator/{name}")
    if name == "standard_sn":
        for _ in range(20):
            net(image)
        prefix = f"{name}/after_20/"
        wanted = {k.removeprefix(prefix): v for k, v in discriminators.items() if k.startswith(prefix)}
        state = net.state_dict()
        torch.testing.assert_close({key: state[key] for key in wanted}, wanted, atol=1e-5, rtol=0)
    (logits,) = net.eval()(image).logits
    torch.testing.assert_close(logits, discriminators[f"{name}/logits"], atol=1e-5, rtol=0)
    if f"{name}/logits_train_mode" in discriminators:
        (logits,) = net.train()(image).logits
        torch.testing.assert_close(logits, discriminators[f"{name}/logits_train_mode"], atol=1e-5, rtol=0)
