"""Losses on any bands and axes: the original's numbers, units, bands, slices and masks; VGG19 and custom extractors."""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import kornia
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from hypir_core.config import build
from hypir_core.engines.pixel.network import build_network, save_pixel
from hypir_core.errors import (
    ConfigError,
    ShapeError,
    SpecMismatchError,
    UnknownNameError,
    WeightsNotFoundError,
)
from hypir_core.image.ranges import UNIT, Range, RangeConfig, RangeKind, named_range
from hypir_core.weights.pixel_spec import PixelSpec
from train.config import Domain, LossConfig, R1Over, ValidationConfig, Vgg19Config
from train.discriminators import ADVERSARIAL
from train.discriminators.feature_matching import feature_matching
from train.discriminators.r1 import r1_penalty
from train.losses import LOSSES, Compared, WeightedLoss, build_losses, check_loss, register_loss, works_of
from train.losses.vgg19 import Vgg19
from train.run.validation import fixed_pairs, validate

SMALL: dict[str, dict[str, Any]] = {
    "tv": {"beyond_target": False},
    "ssim": {"window": 5},
    "ms_ssim": {"scales": 2, "window": 3},
    "checkerboard": {"window": 2},
    "lpips": {"net": "alex", "pretrained": False},
    "vgg19": {"layers": {"1_2": 1.0, "2_1": 0.5}, "pretrained": False},
}
"""Options for the small pictures here."""

TWO_AXES = {
    *("checkerboard", "lpips", "vgg19", "spectral", "pyramid", "multi_scale_frequency", "log_fourier"),
    *("high_frequency", "haar", "frequency_bands", "cross_resolution", "features"),
}


def pictures(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    a = torch.rand(*shape, generator=g)
    return a, (a + 0.3 * torch.randn(*shape, generator=g)).clamp(0, 1)


def number(x: torch.Tensor | float) -> float:
    return float(x.detach()) if isinstance(x, torch.Tensor) else float(x)


def term(name: str, **config: Any) -> WeightedLoss:
    return build_losses({name: build(LossConfig, config)})[0]


def compared(image: torch.Tensor, target: torch.Tensor, **more: Any) -> Compared:
    return Compared(image=image, target=target, **more)


@pytest.fixture(scope="module", autouse=True)
def extractor():
    """An importable module with features of one's own."""
    module: Any = ModuleType("features_of_mine")

    class Blurred(nn.Module):
        def __init__(self, *, by: int = 2):
            super().__init__()
            self.by, self.gain = by, nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
            return [x * self.gain, pool(x, self.by)]

    module.Blurred, module.number = Blurred, 3
    module.means = lambda x, *, times=1.0: times * x.flatten(2).mean(2)
    sys.modules[module.__name__] = module
    yield module.__name__
    del sys.modules[module.__name__]


# -- every loss on every number of bands and axes --------------------------------------------------------------


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


# -- the original's numbers ------------------------------------------------------------------------------------


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


def test_feature_matching_on_volumes_pulls_only_the_image():
    mine = [torch.rand(1, 2, 3, 4, 5).requires_grad_()]
    true = [torch.rand(1, 2, 3, 4, 5).requires_grad_()]
    feature_matching(mine, true).backward()
    assert mine[0].grad is not None
    assert true[0].grad is None


# -- what the losses of volumes are ----------------------------------------------------------------------------


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


# -- units -----------------------------------------------------------------------------------------------------


def test_a_loss_compares_in_its_units_whatever_the_network_gives():
    """Two ranges of one picture give one loss in units of the file, and each its own in units of the network."""
    image, target = (x * 4000 for x in pictures(1, 3, 8, 9))
    for name, domain, expected in (
        ("l1", "file", number((image - target).abs().mean())),
        ("l1", "unit", number((image - target).abs().mean()) / 10_000),
        ("l1", None, number((image - target).abs().mean()) / 5_000),
        ("sam", None, number(LOSSES.get("sam")(image, target))),
    ):
        for config in (
            RangeConfig(kind=RangeKind.white, white=10_000),
            RangeConfig(kind=RangeKind.white, white=10_000, symmetric=True),
        ):
            values = config.fixed
            both = compared(values.apply(image), values.apply(target), values=values)
            assert number(term(name, domain=domain).of(both)) == pytest.approx(expected, rel=1e-4), (
                name,
                config,
            )
    score = Range(kind=RangeKind.zscore, middle=(2000.0,), width=(500.0,), ends=(-5.0, 5.0))
    both = compared(score.apply(image), score.apply(target), values=score)
    assert number(term("l1", domain="net").of(both)) == pytest.approx(
        number((image - target).abs().mean()) / 500, rel=1e-4
    )
    unit, _ = both.pair(Domain.unit)
    torch.testing.assert_close(unit, ((image - 2000) / 500 + 5) / 10, atol=1e-5, rtol=1e-5)


def test_plain_pictures_come_to_the_losses_unchanged():
    """To the last bit: recorded runs depend on it."""
    image, target = pictures(1, 3, 8, 8)
    plain = compared(image, target, values=UNIT)
    assert plain.pair(Domain.pm1)[0].equal(image * 2 - 1)
    assert plain.pair(Domain.unit)[1] is target
    assert plain.pair(Domain.file)[1] is target


def test_ssim_takes_its_constants_from_the_units():
    image, target = pictures(1, 1, 16, 16)
    values = [number(term("ssim", domain=d).of(compared(image, target))) for d in (None, "pm1", "unit")]
    assert values[0] == values[1]
    theirs = kornia.metrics.ssim(image, target, 11, padding="valid").mean()
    assert values[2] == pytest.approx(1 - number(theirs), abs=1e-5)
    with pytest.raises(ConfigError, match=r"losses\.ssim\.options\.span: with domain: file, state"):
        term("ssim", domain="file")


# -- bands -----------------------------------------------------------------------------------------------------


def test_bands_are_picked_repeated_and_grouped_and_others_get_no_gradient():
    image, target = pictures(1, 6, 8, 8)
    image.requires_grad_()
    value = term("l2", bands=[4, 1]).of(compared(image, target))
    assert number(value) == pytest.approx(number(F.mse_loss(image[:, [1, 4]] * 2, target[:, [1, 4]] * 2)))
    (gradient,) = torch.autograd.grad(value, image)
    assert gradient.abs().amax((0, 2, 3)).gt(0).tolist() == [False, True, False, False, True, False]
    groups = term("vgg19", options=SMALL["vgg19"], bands=[[2, 1, 0], [5, 5, 5]]).of(compared(image, target))
    each = [
        number(term("vgg19", options=SMALL["vgg19"], bands=b).of(compared(image, target)))
        for b in ([2, 1, 0], [5, 5, 5])
    ]
    assert number(groups) == pytest.approx(sum(each) / 2)
    with pytest.raises(ConfigError, match=r"losses\.l2\.bands: expected numbers from 0 to 5, got 6"):
        term("l2", bands=[6]).of(compared(image, target))


@pytest.mark.parametrize(
    ("name", "config", "dims", "said"),
    [
        ("l1", {"bands": [0, 4]}, 2, r"losses\.l1\.bands: expected numbers from 0 to 3, got 4"),
        ("l1", {"bands": []}, 2, "bands must name at least one channel"),
        ("l1", {"bands": [-1]}, 2, "bands count from 0"),
        ("l1", {"slices": [0]}, 2, "belongs to volumes"),
        ("l1", {"slices": [3]}, 3, "slices must be different axes from 0 to 2"),
        ("lpips", {"bands": [2, 1, 0]}, 3, r"takes 2 spatial axes, .* set losses\.lpips\.slices"),
        ("vgg19", {}, 2, r"losses\.vgg19\.options\.channels: what sees three colours"),
        ("vgg19", {"bands": [1, 2]}, 2, "the generator's 2 channels"),
        ("vgg19", {"domain": "pm1", "bands": [0, 1, 2]}, 2, "domain: must be unit, got pm1"),
        ("vgg19", {"options": {"layers": {"6_1": 1.0}}}, 2, "expected names from 1_1 to 5_4, got '6_1'"),
        ("vgg19", {"options": {"layers": {}}}, 2, "at least one layer"),
        ("tv", {"options": {"beyond": 0}}, 2, r"unknown key 'beyond'"),
        ("ssim", {"domain": "net"}, 2, "state how far black and white are apart"),
    ],
)
def test_what_a_loss_cannot_do_is_said_before_anything_is_made(name, config, dims, said):
    with pytest.raises(ConfigError, match=said):
        check_loss(name, build(LossConfig, config), 4, dims)


def test_a_loss_may_stand_twice_under_names_of_ones_own():
    image, target = pictures(1, 4, 8, 8)
    entries = build_losses(
        {
            "red": build(LossConfig, {"kind": "l1", "bands": [0], "weight": 2.0}),
            "infrared": build(
                LossConfig, {"kind": "l1", "bands": [3], "ramp": {"shape": "linear", "length": 4}}
            ),
        }
    )
    assert [(each.name, each.weight_at(0), each.weight_at(2)) for each in entries] == [
        ("red", 2.0, 2.0),
        ("infrared", 0.0, 0.5),
    ]
    for each, band in zip(entries, (0, 3), strict=True):
        expected = 2 * F.l1_loss(image[:, band], target[:, band])
        assert number(each.of(compared(image, target))) == pytest.approx(number(expected))
    with pytest.raises(UnknownNameError, match="did you mean 'l1'"):
        build_losses({"red": LossConfig(kind="l11")})


def test_a_loss_that_takes_pictures_refuses_a_volume_without_slices():
    image, target = pictures(1, 3, 4, 16, 16)
    with pytest.raises(
        ShapeError, match=r"checkerboard: takes 2 spatial axes, got 3; set losses\.checkerboard\.slices"
    ):
        term("checkerboard", options=SMALL["checkerboard"]).of(compared(image, target))


# -- VGG19 and others' features --------------------------------------------------------------------------------


def narrow_vgg19(
    path: Path, *, widths: tuple[int, ...] = (4, 4, 6, 6), seed: int = 0
) -> dict[str, torch.Tensor]:
    """Write the first four convolutions of a narrow VGG19 in torchvision's layout."""
    g, tensors, channels = torch.Generator().manual_seed(seed), {}, 3
    for place, width in zip((0, 2, 5, 7), widths, strict=True):
        tensors[f"features.{place}.weight"] = torch.randn(width, channels, 3, 3, generator=g) / (
            3 * channels**0.5
        )
        tensors[f"features.{place}.bias"] = torch.randn(width, generator=g) / 10
        channels = width
    torch.save(tensors, path)
    return tensors


def test_vgg19_compares_the_chosen_layers_after_imagenets_normalisation(tmp_path):
    weights = narrow_vgg19(tmp_path / "vgg19.pth")
    image, target = pictures(2, 3, 10, 11)
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def features(x: torch.Tensor) -> dict[str, torch.Tensor]:
        x, found = (x - mean) / deviation, {}
        for name, place in (("1_1", 0), ("1_2", 2), ("2_1", 5), ("2_2", 7)):
            if name == "2_1":
                x = F.max_pool2d(x, 2)
            x = F.conv2d(
                x, weights[f"features.{place}.weight"], weights[f"features.{place}.bias"], padding=1
            ).relu()
            found[name] = x
        return found

    mine, true = features(image), features(target)
    expected = 0.5 * F.l1_loss(mine["1_1"], true["1_1"]) + 2 * F.l1_loss(mine["2_2"], true["2_2"])
    options = {"layers": {"1_1": 0.5, "2_2": 2.0}, "distance": "l1", "weights": str(tmp_path / "vgg19.pth")}
    loss = term("vgg19", options=options)
    torch.testing.assert_close(loss.of(compared(image, target)), expected)
    assert number(loss.of(compared(image, image.clone()))) == 0
    with pytest.raises(ShapeError, match="at least 2 px a side"):
        loss.of(compared(image[..., :1], target[..., :1]))


def test_vgg19_downloads_nothing_and_refuses_other_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        WeightsNotFoundError,
        match=r"losses\.vgg19\.options: .*vgg19-.*\.pth.*set losses\.vgg19\.options\.weights",
    ):
        term("vgg19")
    narrow_vgg19(tmp_path / "short.pth")
    with pytest.raises(
        SpecMismatchError, match=r"options\.weights: .*features\.10 has \[n, 6, 3, 3\], got none"
    ):
        term("vgg19", options={"weights": str(tmp_path / "short.pth")})


def test_custom_features_are_a_class_a_module_or_a_function(extractor):
    image, target = pictures(1, 5, 8, 8)
    value = term("custom", options={"target": f"{extractor}:Blurred", "options": {"by": 4}}).of(
        compared(image, target)
    )
    pooled = F.l1_loss(F.avg_pool2d(image, 4), F.avg_pool2d(target, 4))
    torch.testing.assert_close(value, (F.l1_loss(image, target) + pooled) / 2)
    plain = term(
        "custom",
        options={"target": f"{extractor}:means", "options": {"times": 3.0}, "distance": "l2"},
        domain="pm1",
    )
    torch.testing.assert_close(
        plain.of(compared(image, target)), F.mse_loss(6 * image.mean((2, 3)), 6 * target.mean((2, 3)))
    )
    loss: Any = term("custom", options={"target": f"{extractor}:Blurred"})
    assert not any(p.requires_grad for p in loss.loss._features.parameters())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"target": "features_of_mine:nothing"},
            r"losses\.custom\.options\.target: features_of_mine has no nothing",
        ),
        ({"target": "nowhere_at_all:x"}, "nowhere_at_all cannot be imported"),
        ({"target": "features_of_mine"}, "expected package.module:name, got 'features_of_mine'"),
        ({"target": "features_of_mine:Blurred", "options": {"width": 2}}, "does not take them"),
        ({"target": "features_of_mine:means", "options": {"width": 2}}, "does not take them"),
        ({"target": "features_of_mine:number"}, "is no function, module or class"),
    ],
)
def test_custom_features_that_cannot_be_had_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        term("custom", options=options)


def test_a_loss_of_ones_own_is_registered_and_used_by_name(monkeypatch):
    for part in ("_entries", "_names"):
        monkeypatch.setattr(LOSSES, part, dict(getattr(LOSSES, part)))

    @register_loss("largest", summary="the largest error")
    def largest(image: torch.Tensor, target: torch.Tensor, *, times: float = 1.0) -> torch.Tensor:
        return times * (image - target).abs().max()

    image, target = pictures(1, 3, 4, 4)
    got = term("largest", options={"times": 3}).of(compared(image, target))
    torch.testing.assert_close(got, 6 * (image - target).abs().max())
    with pytest.raises(ConfigError, match="registered twice"):
        register_loss("l1")(largest)


def test_a_named_range_goes_with_the_losses():
    values = named_range("normalise_10k_signed").fixed
    image, target = (values.apply(x * 9000) for x in pictures(1, 4, 8, 8))
    assert number(image.min()) < 0
    assert number(term("l1", domain="unit").of(compared(image, target, values=values))) == pytest.approx(
        number(F.l1_loss(image, target)) / 2
    )


def test_validation_measures_bands_and_takes_less_for_better(photos):
    config = build(
        ValidationConfig,
        {
            "root": photos,
            "count": 2,
            "recipes": ["bicubic"],
            "metrics": ["sam", "ergas", "consistency"],
            "best": "sam",
        },
    )
    pairs = fixed_pairs(config, scale=2, grain_px=2)
    perfect, dyed = (
        validate(pairs, each)
        for each in (lambda b: b.hq, lambda b: b.hq * torch.tensor([1.0, 0.8, 0.5]).view(1, 3, 1, 1))
    )
    assert perfect.scalars["val/bicubic/sam"] == pytest.approx(0, abs=1e-6)
    assert perfect.scalars["val/bicubic/ergas"] == 0
    assert 0 < perfect.scalars["val/bicubic/consistency"] < 0.02 < dyed.scalars["val/bicubic/consistency"]
    assert dyed.scalars["val/bicubic/sam_gain"] < 0 < perfect.scalars["val/bicubic/ergas_gain"]
    assert perfect.score > dyed.score
    with pytest.raises(ConfigError, match=r"got 'ergas'; name it in metrics as well"):
        ValidationConfig(root=Path(), best="ergas")
