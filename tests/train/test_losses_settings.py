"""What the settings of a loss say: the units it compares in, the bands it sees, the name it has."""

from __future__ import annotations

import kornia
import pytest
import torch
from torch.nn import functional as F

from hypir_core.config import build
from hypir_core.errors import ConfigError, UnknownNameError
from hypir_core.image.ranges import UNIT, Range, RangeConfig, RangeKind, named_range
from tests.train.loss_terms import SMALL, compared, number, pictures, term
from train.config import Domain, LossConfig
from train.losses import LOSSES, build_losses, check_loss


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


def test_a_named_range_goes_with_the_losses():
    values = named_range("normalise_10k_signed").fixed
    image, target = (values.apply(x * 9000) for x in pictures(1, 4, 8, 8))
    assert number(image.min()) < 0
    assert number(term("l1", domain="unit").of(compared(image, target, values=values))) == pytest.approx(
        number(F.l1_loss(image, target)) / 2
    )


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
