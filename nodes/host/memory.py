"""Where and in how much memory ComfyUI lets a node run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management as management
import comfy.model_patcher
import torch
from torch import Tensor

from ...hypir_core.debug import inspector
from ...hypir_core.errors import OutOfMemoryError
from ...hypir_core.progress import Progress
from ...hypir_core.runtime import Runtime


def device() -> torch.device:
    """Return where ComfyUI computes."""
    return management.get_torch_device()


def dtype_name() -> str:
    """Return ``auto``, unless ComfyUI was started with ``--force-fp32``."""
    return "float32" if getattr(management, "FORCE_FP32", False) else "auto"


def runtime(progress: Progress) -> Runtime:
    """Return how to run here: ComfyUI's device, its cancel button, and a progress bar."""
    where = device()
    return Runtime(
        device=where,
        # On a CPU larger batches gain no speed, and one tile at a time can be watched and cancelled.
        batch_tiles=1 if where.type == "cpu" else None,
        batch_images=1 if where.type == "cpu" else None,
        canvas_device=management.intermediate_device(),
        progress=progress,
        should_stop=interrupted,
        inspect=inspector(),
    )


def interrupted() -> bool:
    """Raise ComfyUI's own exception where the user pressed cancel; else return False."""
    management.throw_exception_if_processing_interrupted()
    return False


def free_bytes() -> int:
    """Return how much memory is free where finished pictures lie."""
    return int(management.get_free_memory(management.intermediate_device()))


def as_image(image_bhwc: Tensor) -> Tensor:
    """Give a finished picture the format in which ComfyUI passes pictures on."""
    return image_bhwc.to(_image_dtype())


def new_image(shape: tuple[int, ...]) -> Tensor:
    """Return room for an IMAGE [b h w c], where and in the format in which ComfyUI passes pictures on."""
    return torch.empty(shape, device=management.intermediate_device(), dtype=_image_dtype())


def _image_dtype() -> torch.dtype:
    return getattr(management, "intermediate_dtype", lambda: torch.float32)()


@contextmanager
def room_for(module: torch.nn.Module, working_bytes: float) -> Iterator[None]:
    """Ask ComfyUI to make room for a network that it does not manage; bring that back to the CPU afterwards."""
    management.free_memory(management.module_size(module) + working_bytes, device())
    try:
        yield
    finally:
        module.to(management.unet_offload_device())


def place_managed(patcher: Any, working_bytes: float, wanted: torch.device) -> None:
    """Have ComfyUI load a network that it manages, whole, with room to work; refuse another device than its own."""
    require_device(wanted, patcher.load_device)
    management.load_models_gpu([patcher], memory_required=working_bytes, force_full_load=True)


def lending() -> Callable[[torch.nn.Module], None]:
    """Return what has ComfyUI load a network, whole; it unloads it when it needs the room, or when nobody holds it."""
    held: dict[torch.nn.Module, Any] = {}

    def place(module: torch.nn.Module) -> None:
        if module not in held:
            held.clear()
            held[module] = comfy.model_patcher.ModelPatcher(
                module, load_device=device(), offload_device=management.unet_offload_device()
            )
        management.load_models_gpu([held[module]], force_full_load=True)

    return place


def require_device(wanted: torch.device, own: torch.device) -> None:
    """Refuse another device than a model's own: ComfyUI decides where it lies."""
    if wanted.type != own.type:
        raise OutOfMemoryError(
            f"out of memory on {own} with the smallest tile; start ComfyUI with --lowvram, close other "
            "programs, or ask for a smaller size"
        )
