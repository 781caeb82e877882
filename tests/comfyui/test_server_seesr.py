"""SeeSR's networks under stock nodes and under Few-Step Restore, queued in a running ComfyUI."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.comfyui.server import Server
from tests.comfyui.small_seesr import small_seesr, write_seesr

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(comfyui_here, weights, tmp_path_factory):
    """A ComfyUI with the files of a small SeeSR, and with nodes that give words, tokens and a VAE."""
    base = tmp_path_factory.mktemp("seesr")
    folder, unet, _lora = weights
    for name in ("custom_nodes", "models/diffusion_models", "models/hypir", "models/controlnet"):
        (base / name).mkdir(parents=True)
    (base / "custom_nodes" / "given_nodes").symlink_to(Path(__file__).with_name("given_nodes"))
    (base / "models" / "diffusion_models" / "unet.safetensors").symlink_to(folder / "unet.safetensors")
    seesr = small_seesr(copy.deepcopy(unet))
    write_seesr(base / "models" / "hypir", seesr)
    (base / "models" / "hypir" / "seesr_controlnet.safetensors").rename(
        base / "models" / "controlnet" / "seesr_controlnet.safetensors"
    )
    running = Server(comfyui_here, base)
    Image.effect_noise((64, 64), 60).convert("RGB").save(base / "input" / "small.png")
    yield running
    running.stop()


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def graph(*, strength: float = 1.0, tokens: bool = True):
    """What both samplers share."""
    extra = {"tokens": ["tokens", 0]} if tokens else {}
    return {
        "picture": node("LoadImage", image="small.png"),
        "big": node("ImageScaleBy", image=["picture", 0], upscale_method="bicubic", scale_by=2.0),
        "unet": node("UNETLoader", unet_name="unet.safetensors", weight_dtype="default"),
        "vae": node("GivenVae"),
        "tokens": node("GivenTokens"),
        "words": node("GivenWords", seed=1),
        "others": node("GivenWords", seed=2),
        "seesr": node(
            "HypirLoadSeesr", model=["unet", 0], unet="seesr_unet.safetensors",
            controlnet="seesr_controlnet.safetensors",
        ),
        "apply": node(
            "HypirApplySeesr", model=["seesr", 0], control_net=["seesr", 1], image=["big", 0],
            positive=["words", 0], negative=["others", 0], strength=strength, **extra,
        ),
    }  # fmt: skip


def sampled(model=("apply", 0), positive=("apply", 1), negative=("apply", 2), prefix="stock"):
    """The stock nodes after it."""
    return {
        "encode": node("VAEEncode", pixels=["big", 0], vae=["vae", 0]),
        "sampler": node(
            "KSampler", model=list(model), positive=list(positive), negative=list(negative), seed=7, steps=2, cfg=1.5,
            latent_image=["encode", 0], sampler_name="ddim", scheduler="sgm_uniform", denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["vae", 0]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix=prefix),
    }  # fmt: skip


def picture(server, name):
    (path,) = (server.base / "output").glob(f"{name}_*.png")
    return np.asarray(Image.open(path)).astype(float)


def test_a_stock_sampler_runs_seesr_and_the_plain_model_after_it(server):
    plain = {"model": ("unet", 0), "positive": ("words", 0), "negative": ("others", 0)}
    for name, given in {
        "before": graph() | sampled(**plain, prefix="before"),
        "full": graph() | sampled(prefix="full"),
        "blind": graph(tokens=False) | sampled(prefix="blind"),
        "loose": graph(strength=0.0) | sampled(prefix="loose"),
        "none": graph(strength=0.0, tokens=False) | sampled(prefix="none"),
    }.items():
        run = server.run(given)
        assert run.error is None, (name, run.error)
    again = graph() | sampled(**plain, prefix="after")
    again["sampler"]["inputs"]["seed"] = 8  # ComfyUI would answer from its cache
    assert server.run(again).error is None
    again = graph() | sampled(**plain, prefix="again")
    assert server.run(again).error is None
    made = {n: picture(server, n) for n in ("before", "full", "blind", "loose", "none", "again")}
    assert np.array_equal(made["again"], made["before"])
    assert np.array_equal(made["none"], made["before"])  # without tokens and control it is the plain model
    pairs = [("full", "blind"), ("full", "loose"), ("blind", "before"), ("loose", "before")]
    for one, other in pairs:
        assert np.abs(made[one] - made[other]).mean() > 1, (one, other)


def test_few_step_restore_runs_in_the_server(server):
    few = node(
        "HypirFewStepRestore", image=["picture", 0], model=["apply", 0], vae=["vae", 0], positive=["apply", 1],
        size_rule="scale", scale=2.0, longest_side_px=2048, megapixels=4.0, steps=1, cfg=1.0, sampler="ddim",
        start="lq", seed=7, particles=1, bandwidth=0.0, color_fix="automatic", color_strength=1.0, tile_px=0,
        overlap_px=0, negative=["apply", 2],
    )  # fmt: skip
    given = graph() | {"few": few, "report": node("PreviewAny", source=["few", 1])}
    given |= {"save": node("SaveImage", images=["few", 0], filename_prefix="few")}
    run = server.run(given)
    assert run.error is None, run.error
    assert picture(server, "few").shape == (128, 128, 3)
    (shown,) = (one["output"]["text"] for one in run.of("executed") if one["node"] == "report")
    (report,) = json.loads(shown[0])
    assert report["engine"] == "seesr"
    assert any("negative is not read" in note for note in report["notes"])
