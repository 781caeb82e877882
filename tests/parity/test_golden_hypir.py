"""The original implementation's own results, from a tiny model (tests/golden/hypir/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.cli import main
from hypir_core.tiling.plan import TileWish

pytestmark = pytest.mark.parity

GOLDEN = Path(__file__).parents[1] / "golden" / "hypir"
CASES = json.loads((GOLDEN / "cases.json").read_text())["cases"]


@pytest.fixture(scope="module")
def engine():
    options = {"lora": GOLDEN / "lora.pth", "base_model": str(GOLDEN / "model"), "reference_mode": True}
    return load_engine("one-step", options=options, device=torch.device("cpu"), dtype="float32")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_reference_mode_agrees_with_the_original(engine, case):
    data = load_file(GOLDEN / case["file"])
    target = TargetSize(scale=case.get("upscale"), longest_side_px=case.get("target_longest_side"))
    request = Request(
        target=target,
        prompt=case["prompt"],
        tile=TileWish(tile_px=case["patch_size"], overlap_px=case["patch_size"] - case["stride"]),
    )
    restored = restore(engine, data["lq_uint8"].float() / 255, request, Runtime(batch_tiles=2))
    difference = (restored.image_01 - data["restored"]).abs()
    assert restored.image_01.shape == data["restored"].shape
    assert difference.max() <= 2e-4, f"max {difference.max():.2e}, mean {difference.mean():.2e}"
    print(f"{case['file']}: max {difference.max():.2e}, mean {difference.mean():.2e}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_the_command_line_agrees_too(case, tmp_path):
    data = load_file(GOLDEN / case["file"])
    photo, out = tmp_path / "photo.png", tmp_path / "out.npy"
    Image.fromarray(data["lq_uint8"][0].permute(1, 2, 0).numpy()).save(photo)
    size = (
        ("--scale", case["upscale"]) if "upscale" in case else ("--longest-side", case["target_longest_side"])
    )
    words = [
        "restore",
        photo,
        "-o",
        out,
        "--format",
        "npy",
        "--engine",
        "one-step",
        "--reference-mode",
        *size,
    ]
    words += ["--base", GOLDEN / "model", "--lora", GOLDEN / "lora.pth", "--prompt", case["prompt"]]
    words += [
        "--tile",
        case["patch_size"],
        "--overlap",
        case["patch_size"] - case["stride"],
        "--dtype",
        "float32",
    ]
    assert main([str(word) for word in words]) == 0
    restored = torch.from_numpy(np.load(out)).permute(2, 0, 1)
    assert (restored - data["restored"][0]).abs().max() <= 2e-4
