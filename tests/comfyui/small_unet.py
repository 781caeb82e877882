"""The smallest UNet that ComfyUI takes for Stable Diffusion 2: its widths are checked, its depth is not."""

from __future__ import annotations

from pathlib import Path

import torch

from hypir_core.lora.file import Lora, factor_shapes
from hypir_core.lora.names import adaptable_modules, adapted_modules
from hypir_core.models.sd.random_sd21 import fill_randomly_
from hypir_core.models.sd.sd21 import SD21_UNET
from hypir_core.weights.ldm_names import LDM_UNET_PREFIX, ldm_names
from hypir_core.weights.tensors import write_tensors

CONFIG = SD21_UNET | {
    "block_out_channels": (320, 320, 320, 320),
    "attention_head_dim": (5, 5, 5, 5),
    "layers_per_block": 1,
}


def small_unet(seed: int = 231, **changes):
    """A UNet of 53 million random numbers."""
    from hypir_core.models.sd.backbone import empty_unet

    return fill_randomly_(empty_unet(CONFIG | changes), torch.Generator().manual_seed(seed))


def small_lora(unet, *, rank: int = 4, seed: int = 7) -> Lora:
    """A LoRA on every module that a one-step LoRA adapts, strong enough to matter."""
    rng = torch.Generator().manual_seed(seed)
    modules = adapted_modules(adaptable_modules(dict(unet.named_parameters())))
    factors = {
        name: tuple(torch.randn(shape, generator=rng) * 0.02 for shape in factor_shapes(weight, rank))
        for name, weight in modules.items()
    }
    return Lora(factors=factors, rank=rank, alpha=float(rank))


def write_checkpoint(path: Path, unet, extra: dict | None = None) -> None:
    """Write a UNet under the names of a single-file checkpoint."""
    tensors = unet.state_dict()
    names = ldm_names(tensors)
    named = {LDM_UNET_PREFIX + names[name]: tensor for name, tensor in tensors.items()}
    write_tensors(path, named | (extra or {}), {})
