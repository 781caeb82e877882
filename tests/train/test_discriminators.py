from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from hypir_core.config import build
from hypir_core.errors import ConfigError, ShapeError, UnknownNameError
from train.discriminators import ADVERSARIAL, DISCRIMINATORS
from train.discriminators.feature_matching import feature_matching
from train.discriminators.patch import PatchDiscriminator, PatchOptions
from train.discriminators.r1 import r1_penalty
from train.discriminators.unet import UNetDiscriminator, UNetOptions


def small(name: str, **options) -> nn.Module:
    architecture = DISCRIMINATORS.get(name)
    torch.manual_seed(0)
    return architecture(build(architecture.Options, {"features": 4, **options}))


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


@pytest.mark.parametrize("size", [(32, 32), (37, 51), (24, 64)])
def test_shapes_at_odd_sizes(size):
    h, w = size
    unet = small("unet")(noise(2, 3, h, w))
    assert [tuple(level.shape) for level in unet.logits] == [(2, 1, h, w)]
    assert unet.features == []
    patch = small("patch", layers=2)(noise(2, 3, h, w))
    assert [tuple(level.shape) for level in patch.logits] == [(2, 1, h // 4 - 2, w // 4 - 2)]


@torch.no_grad()
def test_patch_scales_judge_the_shrunk_image():
    network = small("patch", layers=1, scales=3)
    judgement = network(noise(1, 3, 48, 48), with_features=True)
    assert [level.shape[-1] for level in judgement.logits] == [22, 10, 4]
    assert len(judgement.features) == 3 * 2
    network.stacks[2].load_state_dict(network.stacks[0].state_dict())
    network.eval()
    shrunk = nn.functional.avg_pool2d(noise(1, 3, 48, 48), 4)
    alone = network.stacks[0](shrunk)
    torch.testing.assert_close(network(noise(1, 3, 48, 48)).logits[2], alone)


@pytest.mark.parametrize(("layers", "field_px"), [(2, 34), (3, 70), (4, 142)])
def test_convention_a_patch_logit_sees_what_the_option_says(layers, field_px):
    network = PatchDiscriminator(PatchOptions(features=2, layers=layers, spectral_norm=False)).eval()
    image = noise(1, 3, 256, 256).requires_grad_()
    (logits,) = network(image).logits
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    assert image.grad is not None
    assert int((image.grad.abs().sum((0, 1, 2)) > 0).sum()) == field_px


@pytest.mark.parametrize("name", ["patch", "unet"])
def test_too_small_images_are_refused_with_the_size_that_would_do(name):
    network = small(name)
    least = getattr(network, "least_px", 8)
    assert network(noise(1, 3, least, least)).logits[0].numel() > 0
    with pytest.raises(ShapeError, match=rf"at least {least} px.*data\.crop_px"):
        network(noise(1, 3, least - 1, least))


@pytest.mark.parametrize("name", ["patch", "unet"])
def test_spectral_norm_bounds_every_convolution(name):
    """After some power iterations the largest singular value of each weight matrix is 1, also under bf16."""
    network = small(name).train()
    image = noise(1, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(60):
            network(image)
    bounded = [m for m in network.modules() if nn.utils.parametrize.is_parametrized(m)]
    assert len(bounded) == {"patch": 5, "unet": 8}[name]
    network.eval()
    for convolution in bounded:
        largest = torch.linalg.matrix_norm(convolution.weight.detach().flatten(1), ord=2)
        assert float(largest) == pytest.approx(1, abs=0.02)


def test_spectral_norm_is_an_option():
    assert not any(
        nn.utils.parametrize.is_parametrized(m)
        for network in (small("patch", spectral_norm=False), small("unet", spectral_norm=False))
        for m in network.modules()
    )


def test_a_wrong_option_is_named_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"unknown key 'feature' \(did you mean 'features'"):
        build(UNetOptions, {"feature": 3})
    with pytest.raises(ConfigError, match=r"depth must be 1 or more, got 0"):
        build(UNetOptions, {"depth": 0})
    with pytest.raises(UnknownNameError, match="did you mean 'hinge'"):
        ADVERSARIAL.get("hing")


# -- adversarial losses: two levels, a map and a vector, against plain Python ---------------------------------

FAKE = [[0.3, -1.2, 2.0, 0.1], [-0.4, 0.9]]
REAL = [[1.5, 0.2, -0.7, 0.6], [2.2, -0.1]]


def sums(per_logit_fake, per_logit_real) -> float:
    return sum(sum(map(per_logit_fake, level)) / len(level) for level in FAKE) + sum(
        sum(map(per_logit_real, level)) / len(level) for level in REAL
    )


def h(logit: float, label: float) -> float:
    from math import exp, log

    p = 1 / (1 + exp(-logit))
    return -label * log(p) - (1 - label) * log(1 - p)


def nothing(_: float) -> float:
    return 0.0


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


EXPECTED = {
    "hinge": (
        sums(lambda d: -d, nothing),
        sums(lambda d: max(0, 1 + d), lambda d: max(0, 1 - d)),
    ),
    "bce": (
        sums(lambda d: h(d, 0.8), nothing),
        sums(lambda d: h(d, 0), lambda d: h(d, 0.8)),
    ),
    "least_squares": (
        sums(lambda d: (d - 1) ** 2 / 2, nothing),
        sums(lambda d: d**2 / 2, lambda d: (d - 1) ** 2 / 2),
    ),
    "relativistic": tuple(
        sum(
            mean([h(d - mean(low), 1) for d in high]) + mean([h(d - mean(high), 0) for d in low])
            for low, high in zip(lows, highs, strict=True)
        )
        for lows, highs in ((REAL, FAKE), (FAKE, REAL))
    ),
    "wasserstein": (sums(lambda d: -d, nothing), sums(lambda d: d, lambda d: -d)),
}


@pytest.mark.parametrize("name", ADVERSARIAL.names())
def test_adversarial_formulas(name):
    loss = ADVERSARIAL.get(name)()
    fake, real = (
        [torch.tensor(levels[0]).view(1, 1, 2, 2), torch.tensor(levels[1]).view(2, 1)]
        for levels in (FAKE, REAL)
    )
    for_generator, for_discriminator = EXPECTED[name]
    assert float(loss.for_generator(fake, real if loss.needs_real else [])) == pytest.approx(for_generator)
    assert float(loss.for_discriminator(fake, real)) == pytest.approx(for_discriminator)


def test_smoothed_labels_turn_the_generators_gradient_at_ln_4():
    logit = torch.tensor([[1.38]], requires_grad=True)
    smooth, plain = ADVERSARIAL.get("bce")(), build(ADVERSARIAL.get("bce"), {"generator_label": 1.0})
    (pull,) = torch.autograd.grad(smooth.for_generator([logit], []), logit)
    (push,) = torch.autograd.grad(smooth.for_generator([logit + 0.01], []), logit)
    assert pull < 0 < push
    (always,) = torch.autograd.grad(plain.for_generator([logit + 5], []), logit)
    assert always < 0
    with pytest.raises(ConfigError, match=r"real_label must lie in \(0, 1\], got 1\.2"):
        build(ADVERSARIAL.get("bce"), {"real_label": 1.2})


# -- feature matching and R1 ----------------------------------------------------------------------------------


def test_feature_matching_is_zero_at_equality_and_pulls_only_the_image():
    network = small("unet").eval()
    image, target = noise(1, 3, 16, 16, seed=1).requires_grad_(), noise(1, 3, 16, 16).requires_grad_()
    fake, real = (network(x, with_features=True).features for x in (image, target))
    assert len(fake) == 6
    assert float(feature_matching(real, real).detach()) == 0
    value = feature_matching(fake, real)
    layers = [float((f - r).detach().abs().mean()) for f, r in zip(fake, real, strict=True)]
    assert float(value.detach()) == pytest.approx(mean(layers))
    value.backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert target.grad is None


def test_feature_matching_on_volumes_pulls_only_the_image():
    mine = [torch.rand(1, 2, 3, 4, 5).requires_grad_()]
    true = [torch.rand(1, 2, 3, 4, 5).requires_grad_()]
    feature_matching(mine, true).backward()
    assert mine[0].grad is not None
    assert true[0].grad is None


def test_r1_of_a_known_function():
    """D₁(x) = a·Σx over a map of n copies and D₂(x) = ½·Σx² give the gradient a + x."""
    real = noise(2, 3, 4, 5, dtype=torch.float64).requires_grad_()
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    total = real.flatten(1).sum(1, keepdim=True)
    logits = [(a * total).expand(2, 6).view(2, 1, 2, 3), 0.5 * real.square().flatten(1).sum(1, True)]
    penalty = r1_penalty(real, logits)
    expected = 0.5 * (a + real).square().flatten(1).sum(1).mean()
    assert float(penalty.detach()) == pytest.approx(float(expected.detach()))
    (slope,) = torch.autograd.grad(penalty, a)
    assert float(slope) == pytest.approx(float((a + real).detach().flatten(1).sum(1).mean()))


@pytest.mark.parametrize("name", ["patch", "unet"])
def test_r1_gradients_reach_the_weights(name):
    network = small(name, features=1, **({"layers": 1} if name == "patch" else {"depth": 1})).double().eval()
    real = noise(1, 3, 8, 8, dtype=torch.float64).requires_grad_()
    weight = next(p for n, p in network.named_parameters() if n.endswith("original"))

    def penalty(values: torch.Tensor) -> torch.Tensor:
        name_of = next(n for n, p in network.named_parameters() if p is weight)
        return r1_penalty(real, torch.func.functional_call(network, {name_of: values}, real).logits)

    assert gradcheck(penalty, weight.detach().clone().requires_grad_(), fast_mode=True)


def test_discriminators_give_the_image_a_checked_gradient():
    for network in (
        UNetDiscriminator(UNetOptions(features=2, depth=2)).double().eval(),
        PatchDiscriminator(PatchOptions(features=2, layers=1, instance_norm=True)).double().eval(),
    ):
        image = noise(1, 3, 7, 9, dtype=torch.float64).requires_grad_()
        assert gradcheck(lambda x, network=network: network(x).logits[0].mean(), image, fast_mode=True)
