"""The original implementation's own results, from a tiny model (tests/golden/hypir/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hypir_core import Request, Runtime, TargetSize, load_engine
from hypir_core.engines.one_step_reference import restore_like_the_original

pytestmark = pytest.mark.parity

GOLDEN = Path(__file__).parents[1] / "golden" / "hypir"
CASES = json.loads((GOLDEN / "cases.json").read_text())["cases"]


@pytest.fixture(scope="module")
def engine():
    options = {"lora": GOLDEN / "lora.pth", "base_model": str(GOLDEN / "model"), "reference_mode": True}
    return load_engine("one-step", options=options, device=torch.device("cpu"), dtype="float32")[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_reference_mode_agrees_with_the_original(engine, case):
    data = load_file(GOLDEN / case["file"])
    target = TargetSize(scale=case.get("upscale"), longest_side_px=case.get("target_longest_side"))
    request = Request(
        engine="one-step",
        target=target,
        prompt=case["prompt"],
        tile_px=case["patch_size"],
        overlap_px=case["patch_size"] - case["stride"],
    )
    restored = restore_like_the_original(
        engine, data["lq_uint8"].float() / 255, request, Runtime(batch_tiles=2)
    )
    difference = (restored.image_01 - data["restored"]).abs()
    assert restored.image_01.shape == data["restored"].shape
    assert difference.max() <= 2e-4, f"max {difference.max():.2e}, mean {difference.mean():.2e}"
    print(f"{case['file']}: max {difference.max():.2e}, mean {difference.mean():.2e}")
