"""SeeSR's engine in reference mode against the original's own runs (tests/golden/seesr/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.cli import main
from hypir_core.color.mode import ColorFix
from hypir_core.config import parse_assignments
from hypir_core.engines.diffusion.engine import Diffusion
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileWish
from hypir_core.tiling.run import run_stage

pytestmark = pytest.mark.parity

GOLDEN = Path(__file__).parents[1] / "golden" / "seesr"
CASES = json.loads((GOLDEN / "cases.json").read_text())["cases"]
WEIGHTS = "diffusion_pytorch_model.safetensors"
FIXES = {"adain": ColorFix.adain, "wavelet": ColorFix.wavelet, "nofix": ColorFix.none}


def words_of(case) -> list[str]:
    """Return the options of a case, as the command line takes them."""
    options = {
        "seesr": GOLDEN / "seesr",
        "tagger": GOLDEN / "ram" / "ram_swin_large_14m.pth",
        "tagger_lora": GOLDEN / "ram" / "DAPE.pth",
        "tag_list": GOLDEN / "ram",
        "steps": case["num_inference_steps"],
        "sampler": case["sampler"],
        "process_px": case["process_size"],
        "start": {"lr": "lq", "noise": "noise"}[case["start_point"]],
        "start_t": case["start_steps"],
        "cfg": case["guidance_scale"],
        "control_strength": case["conditioning_scale"],
    }
    if case["guidance_scale"] > 1:
        options["negative"] = case["negative_prompt"]
    return [f"{name}={value}" for name, value in options.items()]


def engine_for(case) -> Diffusion:
    options = parse_assignments(words_of(case)) | {
        "base_model": str(GOLDEN / case["base"]),
        "reference_mode": True,
    }
    return load_engine("seesr", options, device=torch.device("cpu"), dtype="float32")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_reference_mode_agrees_with_the_original(case):
    data = load_file(GOLDEN / case["file"])
    engine = engine_for(case)
    assert [round(step.t) for step in engine.steps] == case["timesteps"]
    request = Request(
        target=TargetSize(scale=case["upscale"]),
        prompt=case["user_prompt"],
        seed=case["seed"],
        tile=TileWish(tile_px=8 * case["latent_tiled_size"], overlap_px=8 * case["latent_tiled_overlap"]),
        color_fix=FIXES[case["align_method"]],
    )
    picture = data["lq_uint8"].float()[None] / 255
    prepared = engine.prepare(Plane(picture), (0, 0), request)
    if "canvas_uint8" in data:
        assert torch.equal((prepared.plane.data[0] * 255).round().byte(), data["canvas_uint8"])
    plane = prepared.plane
    for stage in engine.stages(prepared, request):
        plane, _ = run_stage(stage, plane, wish=request.tile, runtime=Runtime(batch_tiles=2))
        if stage.name == "encode":
            start = plane.data
    assert prepared.prompt == case["prompt"]
    if "tokens" in data:
        assert (prepared.condition.value.tokens - data["tokens"]).abs().max() <= 2e-5
    if "x_0" in data:
        assert (start - data["x_0"]).abs().max() <= 1e-4
    decoded = plane.data * 2 - 1
    difference = (decoded - data["decoded_pm1"]).abs().max()
    print(f"{case['name']}: decoded {difference:.1e}")
    assert difference <= 1e-4
    result = restore(engine, picture, request, Runtime())
    assert (
        ", ".join(tag.name for tag in result.report.tags) + f", {case['user_prompt']},"
        == case["tags_and_user_prompt"]
    )
    assert_at_most_one_level_off(result.image_01[0], data["result_uint8"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_command_line_agrees_too(case, tmp_path):
    data = load_file(GOLDEN / case["file"])
    photo, out = tmp_path / "photo.png", tmp_path / "out.npy"
    Image.fromarray(data["lq_uint8"].permute(1, 2, 0).numpy()).save(photo)
    words = ["restore", photo, "-o", out, "--format", "npy", "--engine", "seesr", "--reference-mode"]
    words += ["--device", "cpu", "--dtype", "float32", "--base", GOLDEN / case["base"]]
    words += ["--scale", case["upscale"], "--seed", case["seed"], "--prompt", case["user_prompt"]]
    words += ["--color-fix", FIXES[case["align_method"]].value]
    words += ["--tile", 8 * case["latent_tiled_size"], "--overlap", 8 * case["latent_tiled_overlap"]]
    for option in words_of(case):
        words += ["--option", option]
    assert main([str(word) for word in words]) == 0
    written = torch.from_numpy(np.load(out)).permute(2, 0, 1)
    assert_at_most_one_level_off(written, data["result_uint8"])


def assert_at_most_one_level_off(picture_01: Tensor, uint8: Tensor) -> None:
    levels = (picture_01 * 255).round() - uint8.float()
    assert picture_01.shape == uint8.shape
    assert levels.abs().max() <= 1
    assert (levels != 0).float().mean() < 0.2
