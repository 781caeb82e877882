"""Stable Diffusion 2.1 in full size, with random weights: needs 12 GB of memory and some minutes of CPU."""

from __future__ import annotations

import os

import pytest
import torch

from hypir_core import ColorFix, Request, Runtime, TargetSize, load_engine, restore
from hypir_core.models.sd.random_sd21 import random_backbone, random_lora_

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("HYPIR_FULL_SIZE") != "1",
        reason="needs 12 GB of memory and minutes; set HYPIR_FULL_SIZE=1",
    ),
]


def test_one_tile_equals_diffusers_modules_called_directly(rng):
    picture = torch.rand(1, 3, 512, 512, generator=rng)
    expected = directly(picture)
    engine = load_engine(
        "one-step", options={"random_weights": "sd21"}, device=torch.device("cpu"), dtype="float32"
    )
    request = Request(target=TargetSize(scale=1), color_fix=ColorFix.none)
    restored = restore(engine, picture, request, Runtime())
    assert [stage.tiles[:3] for stage in restored.report.stages] == ["1×1"] * 3
    difference = (restored.image_01 - expected).abs()
    print(f"max {difference.max():.2e}, mean {difference.mean():.2e}")
    assert 0.01 < expected.std() < 1
    assert difference.max() <= 1e-4


@torch.inference_mode()
def directly(picture_01: torch.Tensor) -> torch.Tensor:
    """The three networks of diffusers and transformers, timestep not folded, and the formula's constants."""
    backbone = random_backbone()
    random_lora_(backbone.unet, rank=256)
    ids = torch.tensor([[49406, 49407, *[0] * 75]])
    context = backbone.text_encoder(ids).last_hidden_state
    z = backbone.vae.encode(picture_01 * 2 - 1).latent_dist.mean * 0.18215
    x0 = 1.151869 * z - 0.571666 * backbone.unet(z, 200, context).sample
    return (backbone.vae.decode(x0 / 0.18215).sample / 2 + 0.5).clamp(0, 1)
