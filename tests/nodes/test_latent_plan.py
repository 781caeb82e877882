"""A LATENT remembers how its picture lies on it, through whatever stock nodes do to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from hypir_core import read_picture, to_planes
from hypir_core.engines.diffusion.sizing import mirror_to
from hypir_core.image.resize import resize
from hypir_core.tiling.plan import TileWish

EXAMPLES = Path(__file__).parents[2] / "hypir_core" / "examples"
CONTENT_PX = (400, 560)
CANVAS_PX = (512, 576)

TURNS = {
    "as it was": lambda x: x,
    "flipped vertically": lambda x: x.flip(2),
    "flipped horizontally": lambda x: x.flip(3),
    "rotated by 90": lambda x: torch.rot90(x, 1, (3, 2)),
    "rotated by 180": lambda x: torch.rot90(x, 2, (3, 2)),
    "rotated by 270 and flipped": lambda x: torch.rot90(x, 3, (3, 2)).flip(2),
}
"""What LatentFlip and LatentRotate do, with ComfyUI's own calls."""

SINCE = {
    "nothing": lambda x: x,
    "a sampler at denoise 0.6": lambda x: (
        0.64 * x + 0.6 * torch.randn(x.shape, generator=torch.manual_seed(4))
    ),
    "other sharpness and scale": lambda x: 1.4 * F.avg_pool2d(x, 3, 1, 1),
    "repeated": lambda x: x.repeat(3, 1, 1, 1),
    "one of the batch": lambda x: x[1:],
}


@pytest.fixture(scope="module")
def plans(plugin):
    return plugin(".nodes.latent_plan")


def canvas() -> torch.Tensor:
    """Two pictures on one canvas, [2 3 *CANVAS_PX], neither alike after a turn."""
    cat, coffee = (to_planes(read_picture(EXAMPLES / f"{name}.jpg"))[0] for name in ("cat", "coffee"))
    fitted = [resize(image.float().reshape(1, *image.shape[-3:]), CONTENT_PX) for image in (cat, coffee)]
    return mirror_to(torch.cat(fitted), CANVAS_PX)


def latent_of(image: torch.Tensor) -> torch.Tensor:
    """A stand-in for a VAE: 4 channels, 8 px per cell."""
    small = F.avg_pool2d(image, 8) * 2 - 1
    return torch.cat([small, small.mean(1, keepdim=True)], 1)


@pytest.mark.parametrize("since", SINCE)
@pytest.mark.parametrize("turn", TURNS)
def test_the_picture_is_found_wherever_it_lies(plans, turn, since):
    image = canvas()
    samples = latent_of(image)
    plan = plans.planned(samples, content_px=CONTENT_PX, size_px=(200, 280), wish=TileWish())
    changed = TURNS[turn](SINCE[since](samples))
    found = plans.plan_of({"samples": changed, plans.PLAN: plan})
    made = found.undo(TURNS[turn](image))
    wanted = TURNS[turn](resize(image[..., : CONTENT_PX[0], : CONTENT_PX[1]], (200, 280)))
    torch.testing.assert_close(made, wanted)


@pytest.mark.parametrize(
    "other",
    [
        lambda x: x[..., 8:, :],  # LatentCrop
        lambda x: F.interpolate(x, scale_factor=1.5),  # LatentUpscale
        lambda x: torch.cat([x] * 4, 1),  # another model's
        lambda x: x[:, :, None],  # a video's
    ],
)
def test_a_latent_of_another_size_has_no_plan(plans, other):
    samples = latent_of(canvas())
    plan = plans.planned(samples, content_px=CONTENT_PX, size_px=(200, 280), wish=TileWish())
    assert plans.plan_of({"samples": other(samples), plans.PLAN: plan}) is None
    assert plans.plan_of({"samples": samples}) is None


def test_a_picture_that_looks_alike_turned_is_not_turned(plans):
    """Nothing tells a flat or a symmetric picture from its mirror image: it is taken as it is."""
    for samples in (torch.full((1, 4, 64, 64), 0.3), latent_of(canvas())[..., :64, :64]):
        both = samples + samples.flip(-1)
        plan = plans.planned(both, content_px=(400, 400), size_px=(400, 400), wish=TileWish())
        assert plans.plan_of({"samples": both, plans.PLAN: plan}).turn == plans.TURNS[0]
