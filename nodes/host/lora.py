"""LoRAs on ComfyUI's MODEL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.lora
from torch import Tensor


def with_lora(model: Any, tensors: Mapping[str, Tensor], strength: float) -> tuple[Any, int]:
    """Return a patched clone of a MODEL and how many of its weights are patched; `tensors` in kohya's names."""
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    patched = model.clone()
    applied = patched.add_patches(comfy.lora.load_lora(dict(tensors), keys), strength)
    return patched, len(applied)


def with_differences(patched: Any, differences: Mapping[str, Tensor], strength: float) -> int:
    """Add differences to the weights of a patcher, a clone of a MODEL or of a VAE's; return how many it took."""
    return len(
        patched.add_patches({name: ("diff", (tensor,)) for name, tensor in differences.items()}, strength)
    )
