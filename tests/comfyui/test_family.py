"""Restorers of the one-step family in a real ComfyUI give what the library gives on diffusers' networks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from hypir_core.diffusion.prediction import predict_x0
from hypir_core.diffusion.schedule import NoiseSchedule, a_bar_at
from hypir_core.engines.diffusion.restorer import merge_restorer_
from hypir_core.lora.names import adaptable_modules
from hypir_core.lora.one_step_file import read_one_step
from hypir_core.models.sd.sd21 import SD21_VAE
from hypir_core.weights.base_names import vae_tensors
from tests.comfyui.small_unet import small_unet
from tests.core import one_step_files as files

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

SCALE = 0.18215


def thin_vae(tensors=None):
    """Return diffusers' VAE with the weights of ComfyUI's; None: of its shapes."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(**SD21_VAE | {"block_out_channels": (32, 64, 128, 128)}).eval().requires_grad_(False)
    if tensors is not None:
        vae.load_state_dict(vae_tensors(tensors, where="test"))
    return vae


def test_load_hypir_lora_puts_every_restorer_on_model_and_vae(in_comfyui, weights, tmp_path):
    folder, unet, _lora = weights
    rng = torch.Generator().manual_seed(3)
    given = {
        "latent": torch.randn(1, 4, 64, 64, generator=rng) / SCALE,  # one tile
        "condition": torch.randn(1, 77, 1024, generator=rng),
        "image": torch.rand(1, 3, 64, 64, generator=rng),
    }
    save_file(given, tmp_path / "given.safetensors")
    cases = {
        "osediff": ("osediff.pkl", {}),
        "both": ("pisa_sr.pkl", {}),
        "sliders": ("pisa_sr.pkl", {"fidelity": 0.6, "detail": 1.3}),
    }
    refused = {
        "no vae": ("osediff.pkl", {}),
        "slider": ("original.pth", {"detail": 0.5}),
        "mixed": ("s3diff.pkl", {}),
    }
    job = {
        "kind": "family",
        "unet": str(folder / "unet.safetensors"),
        "loras": str(tmp_path),
        "given": str(tmp_path / "given.safetensors"),
        "cases": cases,
        "refused": refused,
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in thin_vae().state_dict().items()}
    files.osediff(tmp_path / "osediff.pkl", unet.state_dict(), shapes)
    files.pisa_sr(tmp_path / "pisa_sr.pkl", {name: tuple(t.shape) for name, t in unet.state_dict().items()})
    files.s3diff(tmp_path, unet.state_dict(), shapes)
    (tmp_path / "original.pth").symlink_to(folder / "original.pth")
    got, said = in_comfyui(**job)
    own = {name.removeprefix("vae."): tensor for name, tensor in got.items() if name.startswith("vae.")}

    for name, (file, sliders) in cases.items():
        base = SimpleNamespace(unet=small_unet(), vae=thin_vae(own))
        modules = [adaptable_modules(dict(net.named_parameters())) for net in (base.unet, base.vae)]
        read = read_one_step(tmp_path / file, *modules)
        passes = merge_restorer_(base, read, sliders=sliders)
        z, t = given["latent"] * SCALE, read.recipe.model_t
        predicted = sum(weight * net(z, t, given["condition"]).sample for weight, net in passes)
        a_bar = a_bar_at(NoiseSchedule(), read.recipe.coeff_t)
        want = predict_x0(z, predicted, a_bar=a_bar, kind=read.recipe.prediction)
        plain = predict_x0(z, unet(z, t, given["condition"]).sample, a_bar=a_bar, kind=read.recipe.prediction)
        assert (want - plain).abs().max() > 0.05  # the restorer matters
        torch.testing.assert_close(got[name] * SCALE, want, atol=1e-4 * (1 + a_bar**-0.5), rtol=1e-4)
        encoded = base.vae.encode(given["image"] * 2 - 1).latent_dist.mean
        torch.testing.assert_close(got[f"{name} encoded"], encoded, atol=1e-4, rtol=1e-4)
        changes = (got[f"{name} encoded"] - got[f"{name} plain"]).abs().max() > 1e-3
        assert changes == (name == "osediff")
    assert (got["both"] - got["sliders"]).abs().max() > 0.05
    merged = base_conv_in(tmp_path, own, unet)
    torch.testing.assert_close(got["osediff baked"].float(), merged, atol=2e-3, rtol=2e-3)
    assert "was trained with tags of the picture" in said["osediff"]
    assert said["no vae"].endswith("OSEDiff changes the VAE too; connect the base model's VAE")
    assert "S3Diff mixes its adapters anew for every picture" in said["mixed"]
    assert said["slider"] == "HYPIR has no detail; leave it at 1"


def base_conv_in(folder, own, unet):
    """Return the first convolution of the VAE's encoder with OSEDiff's adapter in it."""
    vae = thin_vae(own)
    modules = [adaptable_modules(dict(net.named_parameters())) for net in (unet, vae)]
    adapter = read_one_step(folder / "osediff.pkl", *modules).vae
    assert adapter is not None
    down, up = adapter.factors["encoder.conv_in"]
    weight = vae.encoder.conv_in.weight
    return weight + 2 * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
