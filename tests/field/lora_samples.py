"""A small network's modules, and the keys of a LoRA for them in every naming."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from hypir_core.lora.file import factor_shapes
from hypir_core.weights.ldm_names import ldm_names

UNET = Path(__file__).parents[1] / "golden" / "hypir" / "model" / "unet"

BLOCK = "down_blocks.0.attentions.0"
MODULES = {
    f"{BLOCK}.proj_in": (6, 5),
    f"{BLOCK}.transformer_blocks.0.attn1.to_q": (6, 6),
    f"{BLOCK}.transformer_blocks.0.attn2.to_k": (6, 7),
    f"{BLOCK}.transformer_blocks.0.attn1.to_out.0": (5, 6),
    f"{BLOCK}.transformer_blocks.0.ff.net.0.proj": (8, 6),
    "down_blocks.0.resnets.0.conv1": (6, 5, 3, 3),
    "down_blocks.0.downsamplers.0.conv": (6, 6, 3, 3),
    "up_blocks.0.resnets.0.conv_shortcut": (6, 5, 1, 1),
    "mid_block.resnets.0.conv2": (6, 6, 3, 3),
    "conv_out": (4, 6, 3, 3),
}
LDM = ldm_names(MODULES)

NAMINGS = {
    "original": ("{m}.lora_A.default.weight", "{m}.lora_B.default.weight", "{m}.alpha"),
    "other adapter": ("{m}.lora_A.style.weight", "{m}.lora_B.style.weight", "{m}.alpha"),
    "diffusers": ("unet.{m}.lora_A.weight", "unet.{m}.lora_B.weight", "unet.{m}.alpha"),
    "no prefix": ("{m}.lora_A.weight", "{m}.lora_B.weight", "{m}.alpha"),
    "peft": (
        "base_model.model.{m}.lora_A.weight",
        "base_model.model.{m}.lora_B.weight",
        "base_model.model.{m}.alpha",
    ),
    "diffusers 0.1x": ("unet.{m}.lora.down.weight", "unet.{m}.lora.up.weight", "unet.{m}.alpha"),
    "processors": ("unet.{p}.lora_linear_layer.down.weight", "unet.{p}.lora_linear_layer.up.weight", "unet.{p}.alpha"),
    "comfyui": ("{c}.lora_A.weight", "{c}.lora_B.weight", "{c}.alpha"),
    "ldm": ("diffusion_model.{l}.lora_down.weight", "diffusion_model.{l}.lora_up.weight", "diffusion_model.{l}.alpha"),
    "kohya": ("lora_unet_{k}.lora_down.weight", "lora_unet_{k}.lora_up.weight", "lora_unet_{k}.alpha"),
    "kohya ldm": ("lora_unet_{u}.lora_down.weight", "lora_unet_{u}.lora_up.weight", "lora_unet_{u}.alpha"),
}  # fmt: skip


def named(naming: str, module: str) -> tuple[str, str, str]:
    """Return the keys of down, up and alpha."""
    parent, _, last = module.removesuffix(".0").rpartition(".")
    old = f"{parent}.processor.{last}" if ".attn" in module else module
    names = {
        "m": module,
        "p": old,
        "c": old,
        "l": LDM[module],
        "k": module.replace(".", "_"),
        "u": LDM[module].replace(".", "_"),
    }
    down, up, alpha = (template.format(**names) for template in NAMINGS[naming])
    return down, up, alpha


def plain(rank: int = 2) -> dict[str, Tensor]:
    tensors = {}
    for module, weight in MODULES.items():
        keys = named("kohya", module)
        tensors |= dict(zip(keys, map(torch.ones, factor_shapes(weight, rank)), strict=False))
    return tensors


def kohya(**changes: str) -> dict[str, str]:
    return {"ss_network_dim": "2", "ss_network_alpha": "1", **changes}
