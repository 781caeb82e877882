"""Losses against the numbers of the original, which its own code gave."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from hypir_core.config import build
from tests.train.loss_terms import compared, number, term
from train.config import R1Over, Vgg19Config
from train.discriminators import ADVERSARIAL
from train.discriminators.r1 import r1_penalty
from train.losses import LOSSES
from train.losses.vgg19 import Vgg19


@pytest.fixture(scope="module")
def about(golden) -> dict[str, Any]:
    return json.loads((golden / "opensr" / "losses.json").read_text())


@pytest.fixture(scope="module")
def tensors(golden) -> dict[str, torch.Tensor]:
    return {
        key: value
        for file in ("few_bands", "many_bands", "vgg")
        for key, value in load_file(golden / "opensr" / f"losses_{file}.safetensors").items()
    }


@pytest.mark.parity
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 13])
def test_the_originals_content_loss_and_its_gradients(about, tensors, bands):
    expected = about["losses"][str(bands)]
    image, target = tensors[f"{bands}/sr"].requires_grad_(), tensors[f"{bands}/hr"]
    terms = {
        "l1": term("l1", domain="unit"),
        "sam": term("sam"),
        "tv": term("tv", domain="unit", options={"beyond_target": False}),
    }
    values = {name: each.of(compared(image, target)) for name, each in terms.items()}
    for name, value in values.items():
        assert number(value) == pytest.approx(expected[name], abs=1e-6), name
    total = values["l1"] + 0.05 * values["sam"] + 0.01 * values["tv"]
    (gradient,) = torch.autograd.grad(total, image, retain_graph=True)
    torch.testing.assert_close(gradient, tensors[f"{bands}/grad"], atol=1e-6, rtol=1e-5)
    (of_sam,) = torch.autograd.grad(values["sam"], image)
    torch.testing.assert_close(of_sam, tensors[f"{bands}/grad_sam"], atol=1e-6, rtol=1e-5)
    # On the [-1,1] scale of the one-step recipe, l1 and tv count twice as much.
    assert number(term("l1").of(compared(image, target))) == pytest.approx(2 * expected["l1"], abs=2e-6)


@pytest.mark.parity
def test_the_originals_angle_at_the_edges(about):
    one = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    right = torch.tensor([0.0, 3.0, -2.0]).view(1, 3, 1, 1)
    cases = {"zero_vs_one": (one * 0, one), "equal": (one, one), "scaled": (3 * one, one)}
    cases |= {"orthogonal": (right, one), "opposite": (-one, one)}
    for name, (image, target) in cases.items():
        value = LOSSES.get("sam")(image.requires_grad_(), target)
        assert number(value) == pytest.approx(about["losses"]["sam_edges"][name], abs=1e-6), name
        (gradient,) = torch.autograd.grad(value, image)
        assert bool(torch.isfinite(gradient).all()), name


@pytest.mark.parity
@pytest.mark.parametrize("name", ["vgg22", "vgg54"])
def test_the_originals_vgg19_loss(about, tensors, tmp_path, name):
    """Weights by the golden file's formula, in torchvision's layout."""
    layer = f"{name[3]}_{name[4]}"
    shapes: dict[str, torch.Tensor] = {}
    for key, tensor in (
        Vgg19(Vgg19Config(layers={layer: 1.0}, pretrained=False), key="k").network.state_dict().items()
    ):
        text = f"{about['seed']}/vgg19/features.{key}"
        u = np.random.RandomState(zlib.crc32(text.encode())).uniform(-1, 1, tensor.shape)
        scale = (6 / np.prod(tensor.shape[1:])) ** 0.5 if tensor.ndim > 1 else 0.05
        shapes[f"features.{key}"] = torch.from_numpy(u.astype(np.float32)) * number(scale)
    save_file(shapes, tmp_path / "vgg19.safetensors")
    options = {"layers": {layer: 1.0}, "imagenet": False, "weights": str(tmp_path / "vgg19.safetensors")}
    loss: Any = term("vgg19", options=options)
    image = tensors[f"{name}/sr"].requires_grad_()
    value = loss.of(compared(image, tensors[f"{name}/hr"]))
    assert number(value) == pytest.approx(about["losses"][name]["mse"], abs=1e-6)
    (gradient,) = torch.autograd.grad(value, image)
    torch.testing.assert_close(gradient, tensors[f"{name}/grad"], atol=1e-6, rtol=1e-4)
    (features,) = loss.loss.features(image).values()
    assert list(features.shape) == about["losses"][name]["features"]
    torch.testing.assert_close(features[:, :8], tensors[f"{name}/features_sr"], atol=1e-5, rtol=1e-5)


def test_the_originals_adversarial_losses_and_r1():
    """Formulas of its training step: halved discriminator, halved relativistic generator, R1 of the sum of a map."""
    fake, real = [torch.tensor([[0.3], [-1.2]])], [torch.tensor([[1.5], [0.2]])]
    bce = F.binary_cross_entropy_with_logits
    label = torch.full((2, 1), 0.9)
    theirs = build(ADVERSARIAL.get("bce"), {"real_label": 0.9, "generator_label": 1.0, "halve": True})
    assert theirs.for_discriminator(fake, real) == pytest.approx(
        number(bce(real[0], label) / 2 + bce(fake[0], torch.zeros(2, 1)) / 2)
    )
    assert theirs.for_generator(fake, []) == pytest.approx(number(bce(fake[0], torch.ones(2, 1))))
    relative = build(ADVERSARIAL.get("relativistic"), {"real_label": 0.9, "halve": True})
    up, down = real[0] - fake[0].mean(), fake[0] - real[0].mean()
    assert relative.for_discriminator(fake, real) == pytest.approx(
        number(bce(up, label) + bce(down, torch.zeros(2, 1)))
    )
    assert relative.for_generator(fake, real) == pytest.approx(
        number(bce(down, torch.ones(2, 1)) + bce(up, torch.zeros(2, 1))) / 2
    )
    image = torch.rand(2, 4, 3, 3).requires_grad_()
    logits = [(image * 3).sum(1, keepdim=True)]
    assert number(r1_penalty(image, logits, over=R1Over.sum)) == pytest.approx(0.5 * 9 * 36)
    assert number(r1_penalty(image, logits)) == pytest.approx(0.5 * 9 * 36 / 81)
