"""The two restorers inside the package, on the photographs inside the package."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest
import torch

import hypir_core
from hypir_core import Request, Runtime, load_engine, read_picture, restore, to_planes
from hypir_core.image.resize import resize
from hypir_core.metrics.gradients import detail_ratio, gmsd, grid_measure

EXAMPLES = sorted((Path(hypir_core.__file__).parent / "examples").glob("*.jpg"))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pairs() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return (small, true) crops; plainly shrunk by 4."""
    photos = [to_planes(read_picture(path))[0][..., 40:296, 40:296] for path in EXAMPLES]
    return [(resize(photo, (64, 64)).clamp(0, 1), photo) for photo in photos]


@pytest.fixture(scope="module")
def restored(pairs) -> dict[str, list[torch.Tensor]]:
    engines = {
        name: load_engine(name, options={}, device=CPU, dtype="float32")
        for name in ("built-in", "built-in-sharp")
    }
    made = {
        name: [restore(engine, small, Request(), Runtime()).image_01 for small, _ in pairs]
        for name, engine in engines.items()
    }
    return made | {"bicubic": [resize(small, (256, 256)).clamp(0, 1) for small, _ in pairs]}


def mean_of(measure, images, pairs) -> float:
    return fmean(float(measure(image, true)) for image, (_, true) in zip(images, pairs, strict=True))


@pytest.mark.parametrize("name", ["built-in", "built-in-sharp"])
def test_both_have_more_of_the_true_edges_than_bicubic(restored, pairs, name):
    assert mean_of(gmsd, restored[name], pairs) < mean_of(gmsd, restored["bicubic"], pairs)


def test_the_sharp_one_has_more_detail_and_not_too_much(restored, pairs):
    faithful, sharp = (
        mean_of(detail_ratio, restored[name], pairs) for name in ("built-in", "built-in-sharp")
    )
    assert faithful + 0.02 < sharp < 1.1


def test_the_sharp_one_leaves_less_of_a_grid(restored):
    for faithful, sharp in zip(restored["built-in"], restored["built-in-sharp"], strict=True):
        assert grid_measure(sharp) < min(1.5, grid_measure(faithful))


@pytest.mark.parametrize("name", ["built-in", "built-in-sharp"])
def test_colours_stay(restored, pairs, name):
    for image, (_, true) in zip(restored[name], pairs, strict=True):
        assert float((image.mean((2, 3)) - true.mean((2, 3))).abs().max()) < 1 / 255


@pytest.mark.parametrize("name", ["built-in", "built-in-sharp"])
def test_both_may_be_used_by_anybody(name):
    engine = load_engine(name, options={}, device=CPU)
    assert engine.spec.licence == "Apache-2.0"


def test_the_sharp_one_says_what_it_is():
    engine = load_engine("built-in-sharp", options={}, device=CPU)
    assert engine.spec.name == "built-in-sharp"
    assert engine.spec.weights.startswith("restorer_x4_sharp.safetensors sha256:")
