"""UPSCALE_MODEL: what ComfyUI's own loader makes, with a restorer of ours in it."""

from __future__ import annotations

from typing import Any

import comfy.model_management as management
import comfy.model_patcher

RESTORER = "onestep_restorer"
"""The attribute with the engine."""


def as_upscale_model(descriptor: Any, engine: Any) -> Any:
    """Return a descriptor as the running ComfyUI hands it from node to node."""
    descriptor.eval()
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", None)  # newer versions manage these models too
    if patcher is not None:
        descriptor.patcher = patcher(
            descriptor.model,
            load_device=management.get_torch_device(),
            offload_device=management.unet_offload_device(),
        )
    setattr(descriptor, RESTORER, engine)
    return descriptor


def restorer_in(upscale_model: Any) -> Any:
    """Return the engine of an UPSCALE_MODEL that Load Restorer made; None for others."""
    return getattr(upscale_model, RESTORER, None)
