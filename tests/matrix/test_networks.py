"""Every generator and discriminator with any number of bands, on pictures and volumes: forward, backward, finite."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
import torch
from torch import nn

from hypir_core.models.architectures import ARCHITECTURES, build_architecture
from train.discriminators import DISCRIMINATORS

BANDS = (1, 2, 3, 4, 6, 13)
AXES = (2, 3)

GENERATORS = {
    "compact": {"features": 4, "blocks": 1, "scale": 2},
    "span": {"features": 4, "scale": 2},
    "rrdb": {"features": 4, "blocks": 1, "growth": 2, "scale": 2},
    "srresnet": {"channels": 4, "blocks": 1, "head_kernel": 3, "scale": 2},
    "stochastic": {"channels": 4, "blocks": 1, "head_kernel": 3, "noise_dim": 3, "scale": 2},
    "esrgan": {"channels": 4, "blocks": 1, "growth": 2, "scale": 2},
} | {
    f"residual {block}": {"block": block, "channels": 4, "blocks": 1, "head_kernel": 3, "scale": 2}
    for block in ("standard", "res", "rcab", "rrdb", "lka")
}
"""What is tested → the smallest sizes."""

CRITICS = {
    "patch": ({"features": 2, "layers": 1}, 6),
    "unet": ({"features": 2, "depth": 1}, 4),
    "standard": ({"features": 2, "blocks": 3, "pool_cells": 2, "hidden": 3}, 5),
    "patchgan": ({"features": 2, "layers": 1}, 6),
    "esrgan": ({"features": 1, "hidden": 3}, 5),
}
"""Name → the smallest options, and a side that will do."""


def test_all_that_there_is_stands_here():
    of_pictures_alone = {"unet", "progressive_unet"}  # tests/core/pixel/test_unet.py
    assert {name.split()[0] for name in GENERATORS} == set(ARCHITECTURES.names()) - of_pictures_alone
    assert CRITICS.keys() == set(DISCRIMINATORS.names()) - {"clip_convnext"}  # it looks at colour pictures


def learns(net: nn.Module, made: torch.Tensor) -> None:
    """All numbers are finite, and every parameter that there is has a gradient."""
    made.square().mean().backward()
    assert made.isfinite().all()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("name", GENERATORS)
def test_generators(name):
    for bands, dims in product(BANDS, AXES):
        torch.manual_seed(0)
        net = build_architecture(
            name.split()[0], {**GENERATORS[name], "in_channels": bands, "dims": dims}, where="options"
        )
        sizes = (2, 4, 6)[-dims:]
        made = net(torch.rand(2, bands, *sizes))
        assert made.shape == (2, bands, *(2 * size for size in sizes))
        learns(net, made)


@torch.no_grad()
@pytest.mark.parametrize("name", ["srresnet", "residual rcab", "stochastic", "esrgan"])
def test_generators_of_every_factor(name):
    for factor, dims in product((1, 2, 4, 8), AXES):
        options = {**GENERATORS[name], "scale": factor, "in_channels": 2, "dims": dims}
        made = build_architecture(name.split()[0], options, where="options")(
            torch.rand(1, 2, *(2, 3, 4)[-dims:])
        )
        assert made.shape == (1, 2, *(factor * size for size in (2, 3, 4)[-dims:]))


@pytest.mark.parametrize("name", sorted({name.split()[0] for name in GENERATORS} - {"compact"}))
def test_generators_may_make_other_bands_than_they_take(name):
    sizes = next(sizes for key, sizes in GENERATORS.items() if key.split()[0] == name)
    options = {**sizes, "in_channels": 13, "out_channels": 3, "dims": 3, "scale": 4}
    assert build_architecture(name, options, where="options")(torch.rand(1, 13, 1, 2, 3)).shape == (
        1,
        3,
        4,
        8,
        12,
    )


@pytest.mark.parametrize("name", CRITICS)
def test_discriminators(name):
    options, side = CRITICS[name]
    make = DISCRIMINATORS.get(name)
    for bands, dims in product(BANDS, AXES):
        torch.manual_seed(0)
        net = make(make.Options(**options, in_channels=bands, dims=dims))
        image = torch.rand(2, bands, *(side,) * dims, requires_grad=True)
        judgement = net(image, with_features=True)
        learns(net, torch.cat([level.flatten() for level in judgement.logits]))
        assert image.grad is not None
        assert image.grad.isfinite().all()
        assert len(judgement.features) >= 2
        assert all(prod(feature.shape[2:]) and feature.isfinite().all() for feature in judgement.features)
