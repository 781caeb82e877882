"""SeeSR's networks and kernel density steering against the original's numbers (tests/golden/seesr/README.md)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hypir_core.diffusion.edits.steering import Steering, nearest_to_mean
from hypir_core.diffusion.samplers.base import Step
from hypir_core.models.sd.backbone import load_base
from hypir_core.models.sd.controlnet import load_controlnet
from hypir_core.models.sd.fold import fold_timesteps_
from hypir_core.models.sd.image_blocks import add_image_blocks_
from hypir_core.weights.search.locate import locate_base
from hypir_core.weights.tensors import read_tensors

pytestmark = pytest.mark.parity

GOLDEN = Path(__file__).parents[1] / "golden" / "seesr"
ABOUT = json.loads((GOLDEN / "cases.json").read_text())
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def networks():
    """Return (UNet with image blocks, ControlNet), both with the timesteps 999 and 249 folded."""
    unet = load_base(locate_base(GOLDEN / "sd-turbo")).unet
    report = add_image_blocks_(unet, read_tensors(GOLDEN / "seesr/unet" / WEIGHTS).tensors, where="unet")
    assert (report.merged, report.unused) == (
        ABOUT["merge"]["image_attentions"],
        ABOUT["merge"]["others"],
    )
    return unet, load_controlnet(GOLDEN / "seesr/controlnet" / WEIGHTS)


@pytest.mark.parametrize("folded", [False, True], ids=["as loaded", "timesteps folded"])
def test_networks_agree(networks, folded):
    unet, control = networks
    data = load_file(GOLDEN / "networks.safetensors")
    times = [float(t) for t in data["timesteps"]]
    if folded:  # the last test of this module: it changes the networks
        nets = [fold_timesteps_(net, times) for net in (unet, control.net)]
    for i, t in enumerate(times):
        one = {name: data[name][i : i + 1] for name in ("z", "text", "tokens", "hint_01", "eps")}
        if folded:
            for net in nets:
                net.use(t)
        with torch.no_grad():
            found = control.residuals(one["z"], t, one["text"], one["tokens"], one["hint_01"], strength=1.0)
            eps = unet(
                one["z"],
                t,
                (one["text"], one["tokens"]),
                down_block_additional_residuals=found[:-1],
                mid_block_additional_residual=found[-1],
                return_dict=False,
            )[0]
            alone = unet(one["z"], t, (one["text"], one["tokens"]), return_dict=False)[0]
        for j, residual in enumerate(found):
            assert (residual - data[f"residual_{j:02}"][i]).abs().max() <= 1e-5
        assert (eps - one["eps"]).abs().max() <= 1e-5
        assert (alone - data["eps_without_controlnet"][i : i + 1]).abs().max() <= 1e-5


@pytest.mark.parametrize("case", ABOUT["steering"]["cases"], ids=lambda case: case["result"])
def test_steering_agrees(case):
    data = load_file(GOLDEN / "steering.safetensors")
    particles = data["particles"]
    steering = Steering(
        strength=case["strength"], begins=0.0, bandwidth=case["bandwidth"], patch=case["patch"]
    )
    step = Step(index=0, of=1, t=0, a_bar=0.5, a_bar_next=1.0)
    assert (steering(particles, step) - data[case["result"]]).abs().max() <= 1e-6
    double = steering(particles.double(), step)
    assert (double - data[case["result"]].double()).abs().max() <= 1e-6
    assert nearest_to_mean(particles) == ABOUT["steering"]["nearest_to_mean"]
    late = replace(steering, begins=0.5)
    assert late(particles, replace(step, of=4)) is particles
