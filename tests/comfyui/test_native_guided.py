"""SeeSR inside ComfyUI's own networks gives what the library gives on diffusers modules."""

from __future__ import annotations

import copy
import os
import re

import pytest
import torch
from safetensors.torch import save_file

from hypir_core import Request, Runtime, TargetSize, restore
from hypir_core.color.mode import ColorFix
from hypir_core.engines.diffusion.seesr.options import SeesrOptions
from hypir_core.models.sd.backbone import empty_unet
from hypir_core.models.sd.image_blocks import MARK
from hypir_core.models.sd.random_sd21 import fill_randomly_
from hypir_core.models.sd.sd21 import SD21_UNET, SD21_VAE
from hypir_core.models.tagger.ram import Ram, RamSizes
from hypir_core.tags.files import read_tagger
from hypir_core.tags.names import ram_tags
from hypir_core.tags.tagger import Tagger
from hypir_core.tiling.plan import TileWish
from hypir_core.weights.ldm_names import LDM_UNET_PREFIX, ldm_names
from tests.comfyui.small_seesr import (
    STRENGTH,
    TOKENS,
    WIDTH,
    library_engine,
    published,
    small_seesr,
    write_seesr,
)
from tests.comfyui.small_unet import small_unet, write_checkpoint

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

CASES = {
    "two controls, two tiles": {
        "picture": "wide", "edges": True, "tokens": True,
        "steps": 1, "cfg": 1.0, "sampler": "ddim", "start": "lq", "particles": 1,
    },
    "guided particles": {
        "picture": "small", "edges": False, "tokens": True,
        "steps": 2, "cfg": 2.0, "sampler": "ddpm", "start": "noise", "particles": 3,
    },
    "one control": {
        "picture": "small", "edges": False, "tokens": True,
        "steps": 1, "cfg": 1.0, "sampler": "ddim", "start": "lq", "particles": 1,
    },
    "no tokens": {
        "picture": "small", "edges": False, "tokens": False,
        "steps": 1, "cfg": 1.0, "sampler": "ddim", "start": "lq", "particles": 1,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def given():
    rng = torch.Generator().manual_seed(13)
    coarse = torch.rand(1, 3, 8, 16, generator=rng)
    wide = torch.nn.functional.interpolate(coarse, size=(128, 256), mode="bicubic").clamp(0, 1)
    return {
        "wide": wide,
        "small": wide[..., :128].contiguous(),
        "edge": (torch.rand(1, 1, 128, 256, generator=rng) > 0.95).float().expand(-1, 3, -1, -1).contiguous(),
        "words": torch.randn(1, 77, 1024, generator=rng),
        "negative": torch.randn(1, 77, 1024, generator=rng),
        "tokens": torch.randn(1, TOKENS, WIDTH, generator=rng),
        "square": torch.nn.functional.pad(torch.ones(1, 3, 16, 16), (8, 8, 8, 8)),
        "latent": torch.randn(1, 4, 16, 16, generator=rng),
    }


@pytest.fixture(scope="module")
def place(weights, given, tmp_path_factory):
    """A folder with the files of a small SeeSR, and its networks."""
    _folder, unet, _lora = weights
    folder = tmp_path_factory.mktemp("guided")
    seesr = small_seesr(copy.deepcopy(unet))
    write_seesr(folder, seesr)
    save_file(given, folder / "given.safetensors")
    return folder, seesr


@pytest.fixture(scope="module")
def guided(in_comfyui, weights, place):
    folder, seesr = place
    got, said = in_comfyui(
        kind="guided", unet=str(weights[0] / "unet.safetensors"), folder=str(folder),
        edge=str(folder / "edge.safetensors"), given=str(folder / "given.safetensors"), cases=CASES,
    )  # fmt: skip
    return got, said, seesr


@pytest.fixture(scope="module")
def vae(guided):
    return vae_of(guided[0])


def vae_of(got):
    """Return the VAE of ComfyUI's side, in diffusers."""
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    made = AutoencoderKL(**SD21_VAE | {"block_out_channels": (32, 64, 128, 128)}).eval()
    tensors = {name.removeprefix("vae."): t for name, t in got.items() if name.startswith("vae.")}
    made.load_state_dict(convert_ldm_vae_checkpoint(tensors, made.config))
    return made


@pytest.mark.parametrize("name", CASES)
def test_few_steps_equal_the_library(guided, vae, given, name):
    got, said, seesr = guided
    difference, inside = compared(got, copy.deepcopy(seesr), copy.deepcopy(vae), given, name)
    assert difference <= 1e-4
    assert inside > 0.3
    assert ("no tokens" in said[name]) == (not CASES[name]["tokens"])


def compared(got, seesr, vae, given, name):
    """Return how far the library's picture is from ComfyUI's, and how much of it is neither black nor white."""
    case = dict(CASES[name])
    picture, edges, tokens = given[case.pop("picture")], case.pop("edges"), case.pop("tokens")
    options = SeesrOptions(
        **case,
        control_strength=STRENGTH,
        process_px=128,
        negative="negative" if case["cfg"] > 1 else None,
    )
    engine = library_engine(
        seesr, vae, options, words=given["words"], negative=given["negative"],
        tokens=given["tokens"] if tokens else None, edge=given["edge"] if edges else None,
    )  # fmt: skip
    tile = TileWish(tile_px=128, overlap_px=64)
    request = Request(target=TargetSize(scale=1.0), seed=5, color_fix=ColorFix.none, tile=tile)
    want = restore(engine, picture, request, Runtime(batch_tiles=1, batch_images=1)).image_01
    difference = (got[name].movedim(-1, 1) - want).abs()
    print(f"{name}: max {difference.max():.2e} mean {difference.mean():.2e}")
    return difference.max(), ((want > 0) & (want < 1)).float().mean()


def test_the_plain_model_stays_as_it_was(guided):
    got, said, _ = guided
    torch.testing.assert_close(got["plain after"], got["plain before"], atol=0, rtol=0)
    assert said["sites"] == "0"
    torch.testing.assert_close(got["without tokens"], got["plain before"], atol=0, rtol=0)
    assert (got["with tokens"] - got["plain before"]).abs().mean() > 0.01


def test_comfyui_keeps_both_extra_models_in_its_books(guided):
    _, said, _ = guided
    assert {"ImageBlocks", "ControlWithImageBlocks"} <= set(said["loaded"].split())


@pytest.fixture(scope="module")
def refusals(in_comfyui, weights, place):
    folder, _seesr = place
    sd1 = small_unet(cross_attention_dim=768, use_linear_projection=False, attention_head_dim=8)
    write_checkpoint(folder / "sd1.safetensors", sd1)
    save_file({"reweight_scale": torch.zeros(1)}, folder / "ram_plus.safetensors")
    return in_comfyui(
        kind="refused_seesr", unet=str(weights[0] / "unet.safetensors"), folder=str(folder),
        sd1=str(folder / "sd1.safetensors"), edge=str(folder / "edge.safetensors"),
        given=str(folder / "given.safetensors"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("case", "words"),
    {
        "base": "SpecMismatchError: .*expected SD-Turbo, or .* got Stable Diffusion 1.x",
        "stock as unet": "WeightsError: .*edge.safetensors: .*image_attentions",
        "stock as controlnet": "WeightsError: .*edge.safetensors: .*image_attentions",
        "swapped": "WeightsError: .*expected SeeSR's UNet, got its ControlNet",
        "swapped too": "WeightsError: .*expected SeeSR's ControlNet, got its UNet",
        "plain model": "ConfigError: this MODEL .*Load SeeSR",
        "stock net": "ConfigError: this CONTROL_NET .*Load SeeSR",
        "tokens": "ConfigError: expected the tokens of 1 or of 1 pictures, got those of 3",
        "few on plain": "ConfigError: this MODEL.*Load SeeSR",
        "no negative": "ConfigError: a cfg of 2 needs a negative",
        "ram++": "WeightsError: .*ram_plus.safetensors: .*RAM\\+\\+",
        "old": "HypirError: Load SeeSR needs ComfyUI 0.3.64 or newer, .* this is [0-9.]+: update it",
        "without": "no tokens .*image blocks are skipped",
        "with": "^None$",
        "strength 0": r"^\[\{\}\]$",
    }.items(),
)
def test_what_does_not_go_together_is_said_by_name(refusals, case, words):
    said = refusals[1][case]
    assert re.search(words, said), said


def test_edges_are_drawn_in_the_size_of_the_result(refusals):
    edges = refusals[0]["edges"][0]
    assert edges.shape == (64, 64, 3)
    assert edges.unique().tolist() == [0, 1]
    assert edges[32, 12:20].sum() > 0  # the side of the square, at 16
    assert edges[:10].sum() == edges[28:36, 28:36].sum() == 0


def test_tags_and_tokens_are_the_librarys_and_memory_is_comfyuis(in_comfyui, tmp_path):
    sizes = RamSizes(
        width=8, depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), window=2, mlp_width=16, token_width=32, label_width=16,
        head_width=16, head_mlp_width=32, head_layers=1, labels=len(ram_tags().names),
    )  # fmt: skip
    with torch.device("meta"):
        net = Ram(sizes)
    fill_randomly_(net, torch.Generator().manual_seed(3))
    save_file({n: t.contiguous() for n, t in net.state_dict().items()}, tmp_path / "small.safetensors")
    pictures = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(4))
    save_file({"pictures": pictures}, tmp_path / "given.safetensors")
    got, said = in_comfyui(kind="tagged", folder=str(tmp_path), given=str(tmp_path / "given.safetensors"))
    tagger = Tagger(read_tagger(tmp_path / "small.safetensors"), threshold=0.5, max_tags=5, dtype="float32")
    seen = [tagger.look(picture) for picture in pictures.split(1)]
    torch.testing.assert_close(got["tokens"], torch.cat([one.tokens for one in seen]), atol=1e-5, rtol=0)
    lines = [", ".join(f"{tag.name} {tag.probability:.2f}" for tag in one.tags) for one in seen]
    assert said["lines"].split("\n") == lines
    assert len(said["tags"].split(", ")) == 5
    assert "without DAPE" in said["face"]
    assert said["placed"] == "[True, True]"
    assert "Ram" not in said["left"].split()


@pytest.mark.skipif(
    not os.environ.get("HYPIR_FULL_SIZE"), reason="set HYPIR_FULL_SIZE=1: writes 10 GB, takes minutes"
)
def test_full_size_networks_equal_the_library(in_comfyui, given, tmp_path):
    """UNet, image blocks and ControlNet as SeeSR publishes them, with random numbers, on a small picture."""
    made = full_size()
    write_seesr(tmp_path, made)
    plain = {name: t for name, t in published(made.unet).items() if MARK not in name}
    names = ldm_names(plain)
    save_file({LDM_UNET_PREFIX + names[n]: t for n, t in plain.items()}, tmp_path / "unet.safetensors")
    del made, plain  # both sides at once would not fit into 16 GB
    save_file(given, tmp_path / "given.safetensors")
    got, said = in_comfyui(
        kind="guided", unet=str(tmp_path / "unet.safetensors"), folder=str(tmp_path), edge="",
        given=str(tmp_path / "given.safetensors"), cases={"one control": CASES["one control"]},
    )  # fmt: skip
    assert "416 tensors of image blocks" in said["one control"]
    difference, inside = compared(got, full_size(), vae_of(got), given, "one control")
    assert difference <= 2e-3
    assert inside > 0.3


def full_size():
    unet = fill_randomly_(empty_unet(SD21_UNET), torch.Generator().manual_seed(231))
    return small_seesr(unet, SD21_UNET)
