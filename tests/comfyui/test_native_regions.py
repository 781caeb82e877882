"""What a CONDITIONING says of places is cut with the tiles; what cannot be cut, or does not fit, is said by name."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file

from tests.comfyui.conftest import BUILT_IN

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

CELLS = (16, 32)


@pytest.fixture(scope="module")
def regions(in_comfyui, weights, tmp_path_factory):
    folder, _unet, _lora = weights
    place = tmp_path_factory.mktemp("regions")
    rng = torch.Generator().manual_seed(6)
    given = {
        "latent": torch.randn(1, 4, *CELLS, generator=rng),
        "condition": torch.randn(1, 77, 1024, generator=rng),
    }
    save_file(given, place / "given.safetensors")
    got, said = in_comfyui(
        kind="regions", unet=str(folder / "unet.safetensors"), loras=str(folder),
        given=str(place / "given.safetensors"),
    )  # fmt: skip
    return got | given, said


def test_a_masked_text_changes_its_half_and_nothing_else(regions):
    got, _ = regions
    half = CELLS[1] // 2
    changed = (got["masked"] - got["plain"]).abs()
    assert changed[..., :half].mean() > 0.01
    assert changed[..., half:].max() < 1e-5


def test_a_tile_is_what_comfyui_makes_of_the_conditioning_cut_by_hand(regions):
    """Masks, areas, strengths and a default entry are mixed as ComfyUI mixes them."""
    got, _ = regions
    torch.testing.assert_close(got["tile"], got["tile of ComfyUI"], atol=1e-4, rtol=0)


def test_areas_have_comfyuis_soft_edges(regions):
    got, _ = regions
    for number in range(4):
        torch.testing.assert_close(got[f"area {number}"], got[f"area {number} of ComfyUI"])


def test_every_control_of_a_chain_sees_its_part_of_its_picture(regions):
    got, _ = regions
    whole = torch.nn.functional.interpolate(got["hint"], scale_factor=2, mode="nearest-exact")
    starts = (0, 64, 128)  # of three tiles of 128 px along 256
    wanted = torch.cat([whole[..., start : start + 128] for start in starts])
    for number in (0, 1):
        torch.testing.assert_close(got[f"hint {number}"], wanted + 1000 * number)
    assert got["unharmed"].item() == 1


def test_strength_0_and_a_black_mask_leave_the_network_alone(regions):
    got, _ = regions
    for name in ("strength 0", "black mask"):
        torch.testing.assert_close(got[name], got["latent"], atol=0, rtol=0)


@pytest.mark.parametrize(
    ("case", "words"),
    {
        "flux": "expected one of Stable Diffusion, .* got one of another model, 16 channels",
        "video": "got one of a video or sound model",
        "cells": "got one with 16 px per cell",
        "sd1": "1024 numbers per token, got that of Stable Diffusion 1.x, 768 per token",
        "t5": "got that of another model, 4096 per token",
        "gligen": "boxes of GLIGEN",
        "control": "a control of the type Foreign",
        "maps": "pictures .reference_latents.",
        "uncovered": "leaves a part of the picture without any text",
        "late": "no entry of the CONDITIONING holds",
    }.items(),
)
def test_what_does_not_fit_is_refused_before_the_network_runs(regions, case, words):
    _, said = regions
    assert re.search(words, said[case]), said[case]
    assert "\n" not in said[case]


def test_a_batch_goes_stage_by_stage_into_one_tensor(in_comfyui):
    got, said = in_comfyui(kind="batches")
    torch.testing.assert_close(got["batch"], got["one by one"], atol=1e-5, rtol=0)
    assert got["order"].tolist() == [1, 1]  # every picture was encoded, then the steps began
    torch.testing.assert_close(got["last"], got["alone"], atol=1e-5, rtol=0)
    assert int(said["taken"]) <= 1.2 * int(said["result"])
    assert said["said"].startswith("48 × 80×60 → 320×240 px · built-in")
    assert "\n" not in said["said"]
    assert "strength 0: the networks did not run" in said["untouched"]


def test_an_upscale_model_that_comfyui_manages_is_left_to_it(in_comfyui):
    """Since August 2026 an UPSCALE_MODEL has a patcher; moving it by hand left ComfyUI's books wrong."""
    got, said = in_comfyui(kind="upscaler", folder=str(BUILT_IN.parent), file=BUILT_IN.name)
    torch.testing.assert_close(got["ours"], got["stock"], atol=1e-4, rtol=0)
    managed = said["has patcher"] == "True"
    assert said["in books"] == str(managed)
    assert said["by"] == ("['managed']" if managed else "[]")
    if managed:  # the memory ladder may not take it to another device
        assert said["elsewhere"] == "OutOfMemoryError"
