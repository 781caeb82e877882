"""Losses on features: those of VGG19, and those of one's own class, module or function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from hypir_core.errors import ConfigError, ShapeError, SpecMismatchError, WeightsNotFoundError
from tests.train.loss_terms import compared, extractor, number, pictures, term

__all__ = ["extractor"]


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
