"""Stable Diffusion 2.1 in full size with random numbers, as one checkpoint file, written once per machine."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.color.fix import color_fix
from hypir_core.color.mode import ColorFix
from hypir_core.lora.file import write_lora
from hypir_core.lora.names import LoraForm
from hypir_core.models.sd.random_sd21 import random_backbone
from hypir_core.weights.ldm_names import LDM_UNET_PREFIX, ldm_names
from hypir_core.weights.tensors import write_tensors
from tests.comfyui.small_unet import small_lora

PROMPT = ""


def full_size_files() -> Path:
    """Return a folder with sd21.safetensors (diffusers VAE and text names inside), lora.pth and given.safetensors."""
    folder = Path(os.environ.get("HYPIR_FULL_SIZE_FOLDER") or Path(tempfile.gettempdir()) / "hypir-full-size")
    folder.mkdir(exist_ok=True)
    if not (folder / "done").exists():
        _write(folder)
        (folder / "done").touch()
    return folder


def standalone(folder: Path) -> tuple[Tensor, Tensor]:
    """Restore the given picture with the library alone; two pictures [1 3 512 512].

    The second is cut to [0,1] before its colours are fixed, as it is where each node passes on an IMAGE.
    """
    options = {
        "base_model": str(folder / "sd21.safetensors"),
        "lora": str(folder / "lora.pth"),
        "offline": True,
    }
    device = torch.device("cpu")
    engine = load_engine("one-step", options=options, device=device, dtype="float32")
    request = Request(target=TargetSize(scale=1.0), prompt=PROMPT)
    image, runtime = _picture(), Runtime(device=device)
    whole = restore(engine, image, request, runtime).image_01
    cut = restore(engine, image, replace(request, color_fix=ColorFix.none), runtime).image_01
    return whole, color_fix(cut, image, mode=ColorFix.wavelet, strength=1.0).clamp(0, 1)


def _write(folder: Path) -> None:
    backbone = random_backbone()
    write_lora(folder / "lora.pth", small_lora(backbone.unet, rank=16), form=LoraForm.original)
    unet = backbone.unet.state_dict()
    names = ldm_names(unet)
    tensors = {LDM_UNET_PREFIX + names[name]: tensor for name, tensor in unet.items()}
    tensors |= vae_in_ldm_names(backbone.vae.state_dict())
    tensors |= text_in_open_clip_names(backbone.text_encoder.state_dict())
    write_tensors(folder / "sd21.safetensors", tensors, {})
    save_file({"image": _picture()}, folder / "given.safetensors")


def _picture() -> Tensor:
    """A smooth picture [1 3 512 512] in [0,1]."""
    rng = torch.Generator().manual_seed(11)
    coarse = torch.rand(1, 3, 24, 24, generator=rng)
    return torch.nn.functional.interpolate(coarse, size=(512, 512), mode="bicubic").clamp(0, 1)


def vae_in_ldm_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a diffusers VAE to the original release's names."""
    out = {}
    for name, value in tensors.items():
        new, tensor = name, value
        for old, ldm in (
            ("mid_block.resnets.0.", "mid.block_1."),
            ("mid_block.resnets.1.", "mid.block_2."),
            ("mid_block.attentions.0.", "mid.attn_1."),
            ("conv_norm_out", "norm_out"),
            ("conv_shortcut", "nin_shortcut"),
        ):
            new = new.replace(old, ldm)
        parts = new.split(".")
        if parts[1] in {"down_blocks", "up_blocks"}:
            side, level = ("down", int(parts[2])) if parts[1] == "down_blocks" else ("up", 3 - int(parts[2]))
            kind = {"resnets": f"block.{parts[4]}", "downsamplers": "downsample", "upsamplers": "upsample"}[
                parts[3]
            ]
            new = ".".join([parts[0], side, str(level), kind, *parts[5:]])
        if ".attn_1." in new:
            for old, ldm in (
                ("group_norm", "norm"),
                ("to_q", "q"),
                ("to_k", "k"),
                ("to_v", "v"),
                ("to_out.0", "proj_out"),
            ):
                new = new.replace(f".{old}.", f".{ldm}.")
            if tensor.ndim == 2:
                tensor = tensor[:, :, None, None]
        out[f"first_stage_model.{new}"] = tensor
    return out


def text_in_open_clip_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a transformers CLIP text tower to OpenCLIP's names, as SD 2 checkpoints hold it."""
    prefix, out, qkv = "cond_stage_model.model.", {}, {}
    for full, tensor in tensors.items():
        name = full.removeprefix("text_model.")
        if name == "embeddings.position_ids":
            continue
        for old, new in (
            ("embeddings.token_embedding.weight", "token_embedding.weight"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
            ("final_layer_norm.", "ln_final."),
            ("encoder.layers.", "transformer.resblocks."),
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("self_attn.out_proj", "attn.out_proj"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ):
            name = name.replace(old, new)
        if ".self_attn." in name:
            block, _, rest = name.partition(".self_attn.")
            which, kind = rest.split(".")
            qkv.setdefault(f"{prefix}{block}.attn.in_proj_{kind}", {})[which[0]] = tensor
        else:
            out[prefix + name] = tensor
    return out | {name: torch.cat([parts[p] for p in "qkv"]) for name, parts in qkv.items()}
