"""Cut-outs keep their rim: colour under transparency continues what is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.cli import main
from hypir_core.image.alpha import fill_transparent

CPU = torch.device("cpu")


def disc(side: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """A red disc on transparent black."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inside = ((y - side / 2) ** 2 + (x - side / 2) ** 2 < (side / 3) ** 2).float()[None, None]
    return torch.tensor([0.9, 0.1, 0.1])[None, :, None, None] * inside, inside


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_what_is_seen_stays_and_the_rest_lies_between(h, w, seed):
    rng = torch.Generator().manual_seed(seed)
    color, alpha = torch.rand(2, 3, h, w, generator=rng), torch.rand(2, 1, h, w, generator=rng)
    alpha = torch.where(alpha < 0.6, 0.0, alpha)
    filled = fill_transparent(color, alpha)
    seen = (alpha > 0).expand_as(color)
    assert torch.equal(filled[seen], color[seen])
    for one, its_color, its_seen in zip(filled, color, seen, strict=True):
        if its_seen.any():
            shown = its_color[its_seen]
            assert shown.min() - 1e-5 <= one.min()
            assert one.max() <= shown.max() + 1e-5


def test_an_opaque_picture_is_returned_as_it_is():
    color = torch.rand(1, 3, 5, 5)
    assert fill_transparent(color, torch.ones(1, 1, 5, 5)) is color
    assert fill_transparent(color, torch.zeros(1, 1, 5, 5)) is color


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_rim_of_a_cut_out_keeps_its_colour(strength):
    """Composed on white, the rim of the red disc was as dark as 99 in red, where 230 belongs."""
    color, alpha = disc()
    engine = load_engine("built-in", device=CPU, dtype="float32")
    done = restore(
        engine, color, Request(target=TargetSize(scale=4), strength=strength), Runtime(), alpha_01=alpha
    )
    assert done.alpha_01 is not None
    on_white = done.image_01 * done.alpha_01 + 1 - done.alpha_01
    assert on_white[:, 0].min() * 255 > 225


def test_the_command_line_keeps_it_too(tmp_path):
    color, alpha = disc()
    pixels = (torch.cat([color, alpha], 1)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "disc.png")
    assert (
        main(["restore", str(tmp_path / "disc.png"), "-o", str(tmp_path / "out.png"), "--device", "cpu"]) == 0
    )
    with Image.open(tmp_path / "out.png") as out:
        white = Image.new("RGBA", out.size, "white")
        white.alpha_composite(out.convert("RGBA"))
    assert np.asarray(white)[..., 0].min() > 225
