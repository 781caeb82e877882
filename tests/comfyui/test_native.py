"""The native path on real ComfyUI models gives what the library gives on diffusers modules."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from hypir_core import Runtime
from hypir_core.engines.diffusion.codec import decode_stage
from hypir_core.engines.diffusion.networks import LATENT_PX
from hypir_core.engines.diffusion.parts import Codec, Placing
from hypir_core.engines.diffusion.sizing import Tiling
from hypir_core.lora.merge import merge_lora_
from hypir_core.metrics.seams import seam_measure
from hypir_core.models.layers.shared_attention import SharedAttention, diffusers_sites
from hypir_core.models.layers.shared_layers import SharedLayers
from hypir_core.models.layers.shared_norms import SharedNorms
from hypir_core.models.sd.sd21 import SD21_VAE
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileConfig, plan_tiles
from hypir_core.tiling.run import run_stage
from tests.comfyui.small_unet import small_unet, write_checkpoint
from tests.comfyui.standalone_step import library_step_stage

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

SCALE = 0.18215


def test_step_and_lora_equal_the_library(in_comfyui, weights, tmp_path):
    folder, unet, lora = weights
    rng = torch.Generator().manual_seed(3)
    latent = torch.randn(2, 4, 64, 88, generator=rng) / SCALE  # two tiles, with a sample before
    condition = torch.randn(1, 77, 1024, generator=rng)
    mask = torch.zeros(1, 64, 88)
    mask[..., 32:] = 1
    save_file({"latent": latent, "condition": condition, "mask": mask}, tmp_path / "given.safetensors")
    files = ["original.pth", "kohya.safetensors"]
    got, said = in_comfyui(
        kind="step", unet=str(folder / "unet.safetensors"), loras=str(folder), files=files, strength=0.5,
        given=str(tmp_path / "given.safetensors"),
    )  # fmt: skip

    merged = small_unet()
    assert merge_lora_(merged, lora, strength=0.5) == len(lora.factors)
    want, plain = (
        library_step(merged, latent * SCALE, condition),
        library_step(unet, latent * SCALE, condition),
    )
    assert (want - plain).abs().max() > 0.05  # the LoRA matters
    for name in files:
        assert said[name] == str(len(lora.factors))
        torch.testing.assert_close(got[name] * SCALE, want, atol=1e-4, rtol=0)
        masked = got[f"{name} masked"]
        torch.testing.assert_close(masked[..., :32], latent[..., :32])
        torch.testing.assert_close(masked[..., 32:], got[name][..., 32:])


def library_step(unet, z: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """Return the library's step on diffusers' UNet, picture by picture."""
    step = library_step_stage(unet, condition)
    done = [run_stage(step, Plane(one, LATENT_PX), runtime=Runtime()) for one in z.split(1)]
    assert all(report.tiles.startswith("1×2") for _, report in done)
    return torch.cat([out.data for out, _ in done])


def library_decode(tensors: dict[str, torch.Tensor], latent: torch.Tensor, tile: TileConfig) -> torch.Tensor:
    """Return a latent decoded in tiles by diffusers' VAE with the weights of ComfyUI's."""
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    vae = AutoencoderKL(**SD21_VAE | {"block_out_channels": (32, 64, 128, 128)}).eval()
    vae.load_state_dict(convert_ldm_vae_checkpoint(tensors, vae.config))
    shared = SharedLayers(norms=SharedNorms(vae), attention=SharedAttention(diffusers_sites(vae)))
    codec = Codec(
        decode=lambda z: vae.decode(z).sample / 2 + 0.5,
        decoding=Placing(bytes_per_px=1.0, shared=shared),
        tile=tile,
    )
    decode = decode_stage(codec, Tiling(), scale=1.0)
    picture, _ = run_stage(decode, Plane(latent, LATENT_PX), runtime=Runtime())
    return picture.data.clamp(0, 1)


def test_encode_and_decode_equal_the_stock_nodes(in_comfyui, tmp_path):
    rng = torch.Generator().manual_seed(11)
    coarse = torch.rand(1, 3, 24, 24, generator=rng)
    image = torch.nn.functional.interpolate(coarse, size=(512, 512), mode="bicubic").clamp(0, 1)
    save_file({"image": image}, tmp_path / "given.safetensors")
    got, said = in_comfyui(kind="vae_tiles", given=str(tmp_path / "given.safetensors"))
    assert said["packages"] == ""
    torch.testing.assert_close(got["latent"], got["core latent"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got["image"], got["core image"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got["reference"], image.movedim(1, -1), atol=1e-5, rtol=0)
    assert got["image"].aminmax() == (0, 1)  # an IMAGE stays inside, whatever the VAE gives
    assert got["tiled image"].shape == got["image"].shape
    # A random VAE's colours follow the statistics of the sample; what is in the picture, and its smoothness across
    # tiles, must not.
    whole, tiled = (got[name].movedim(-1, 1) for name in ("image", "tiled image"))
    for channels in zip(whole[0], tiled[0], strict=True):
        assert torch.corrcoef(torch.stack(channels).flatten(1))[0, 1] > 0.75
    tile = TileConfig(tile_px=256, overlap_px=64)
    spans = plan_tiles((512, 512), tile, grain_px=LATENT_PX).axes[0]
    edges = [edge for start, length in spans for edge in (start, start + length) if 0 < edge < 512]
    assert seam_measure(tiled, edges, edges) < 1.05 * seam_measure(whole, edges, edges)
    of_vae = {name.removeprefix("vae."): t for name, t in got.items() if name.startswith("vae.")}
    in_library = library_decode(of_vae, got["latent"], tile)
    torch.testing.assert_close(tiled, in_library, atol=2e-3, rtol=0)
    assert (tiled - whole).abs().mean() > 10 * (tiled - in_library).abs().mean()
    # [2 70 53 4] in float16, ×1.5: worked on at 512 px, given back in the size asked for
    assert got["small latent"].shape == (2, 4, 64, 64)
    assert got["small reference"].shape == got["small image"].shape == (2, 105, 80, 3)
    assert got["small image"].dtype == torch.float32


def test_bad_tiles_are_made_again_in_float32(in_comfyui, weights, tmp_path):
    """In bfloat16, ComfyUI's networks can compute in float32 for a while, and go back."""
    folder, _unet, _lora = weights
    rng = torch.Generator().manual_seed(3)
    given = {
        "latent": torch.randn(1, 4, 32, 32, generator=rng),
        "condition": torch.randn(1, 77, 1024, generator=rng),
    }
    save_file(given, tmp_path / "given.safetensors")
    tensors = load_file(folder / "unet.safetensors")
    rounded = {name: t.bfloat16().float() for name, t in tensors.items()}
    save_file(rounded, tmp_path / "unet.safetensors")
    got, _ = in_comfyui(
        kind="wide", given=str(tmp_path / "given.safetensors"),
        unet_bfloat16=str(tmp_path / "unet.safetensors"), unet_float32=str(tmp_path / "unet.safetensors"),
    )  # fmt: skip
    for kind in ("step", "decode"):
        exact = got[f"{kind} float32"]
        scale = exact.abs().max()
        assert (got[f"{kind} bfloat16"] - exact).abs().max() > 1e-3 * scale
        assert (got[f"{kind} bfloat16 wide"] - exact).abs().max() < 2e-4 * scale
        torch.testing.assert_close(got[f"{kind} bfloat16 after"], got[f"{kind} bfloat16"])


def test_scarce_memory_is_reported(in_comfyui):
    got, said = in_comfyui(kind="scarce", room_mib=70)
    assert "out of memory, tile 512 → 256 px" in said["decode"]
    assert got["decoded"].shape == (1, 512, 512, 3)


def test_other_models_are_refused_by_name(in_comfyui, weights, tmp_path):
    folder, _unet, lora = weights
    sd1 = small_unet(cross_attention_dim=768, use_linear_projection=False, attention_head_dim=8)
    write_checkpoint(tmp_path / "sd1.safetensors", sd1)
    factors = dict(lora.factors)
    factors.popitem()
    from hypir_core.lora.file import write_lora
    from hypir_core.lora.names import LoraForm

    write_lora(tmp_path / "part.safetensors", replace(lora, factors=factors), form=LoraForm.kohya)
    write_lora(tmp_path / "good.safetensors", lora, form=LoraForm.kohya)
    good = str(folder / "unet.safetensors")
    _, said = in_comfyui(
        kind="refuse", loras=str(tmp_path),
        cases={
            "right": (good, "good.safetensors", None),
            "part": (good, "part.safetensors", None),
            "sd1": (str(tmp_path / "sd1.safetensors"), "good.safetensors", None),
            "v": (good, "good.safetensors", "v_prediction"),
        },
    )  # fmt: skip
    assert said["right"] == "accepted"
    assert said["part"].startswith("SpecMismatchError")
    assert "missing modules: 1" in said["part"]
    assert said["sd1"].endswith("got Stable Diffusion 1.x")
    assert said["v"].endswith("got the 768 px model with v-prediction")


@pytest.mark.skipif(
    not os.environ.get("HYPIR_FULL_SIZE"), reason="set HYPIR_FULL_SIZE=1: writes 8 GB, takes minutes"
)
def test_full_size_checkpoint_equals_the_library(in_comfyui):
    """SD 2.1 in full with random weights, from one file, both ways, on a 512² picture in float32."""
    from tests.comfyui.full_size import PROMPT, full_size_files, standalone

    folder = full_size_files()
    whole, cut = standalone(folder)
    got, said = in_comfyui(
        kind="whole", checkpoint=str(folder / "sd21.safetensors"), loras=str(folder), lora="lora.pth",
        given=str(folder / "given.safetensors"), scale=1.0, prompt=PROMPT,
    )  # fmt: skip
    assert said["patched"] == "257"
    assert said["dtypes"] == "torch.float32 torch.float32"
    for name, want in (("one", whole), ("apart", cut)):
        difference = (got[name].movedim(-1, 1) - want).abs()
        clipped = ((want == 0) | (want == 1)).float().mean()
        print(
            f"{name}: max {difference.max():.2e} mean {difference.mean():.2e}, {clipped:.0%} at black or white"
        )
        assert difference.max() <= 2e-3
        assert clipped < 0.5
    print(f"Restore Image: {said['seconds']} s")
