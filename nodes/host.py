"""ComfyUI, as far as this plugin knows it: the only file that imports it.

Works from version 0.3.64 on; what came later is asked for by name and left out where it is not there.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_management as management
import comfy.model_sampling
import comfy.samplers
import comfy.utils
import folder_paths
import torch
from comfy.ldm.modules.diffusionmodules.model import AttnBlock
from comfy_api.latest import ComfyExtension, io, ui
from PIL import Image
from torch import Tensor

from ..hypir_core.errors import ConfigError, OutOfMemoryError, SpecMismatchError, WeightsNotFoundError
from ..hypir_core.models.layers.attention_processor import Attend
from ..hypir_core.models.layers.shared_attention import SharedAttention
from ..hypir_core.models.layers.shared_layers import SharedLayers
from ..hypir_core.models.layers.shared_norms import SharedNorms
from ..hypir_core.progress import Progress, Tick
from ..hypir_core.runtime import Runtime

__all__ = ["ComfyExtension", "io", "ui"]

PREVIEW_PX = 512
PREVIEW_EVERY_S = 0.25
BAR_STEPS = 1000

LATENT_RGB = ((0.35, 0.23, 0.32), (0.33, 0.50, 0.24), (-0.28, 0.18, 0.27), (-0.21, -0.26, -0.72))
"""What one unit of each channel of a scaled Stable Diffusion latent adds to a colour in [-1,1]: a rough
preview; where ComfyUI brings its own numbers they are used."""


# Nodes


def schema(**fields: Any) -> io.Schema:
    """Make a schema of the fields that the running ComfyUI knows."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(**{name: value for name, value in fields.items() if name in known})


def advanced(given: Any) -> Any:
    """Mark an input as one that newer frontends fold away."""
    given.extra_dict["advanced"] = True
    return given


async def register_replacements(replacements: list[dict[str, Any]]) -> None:
    """Offer to replace nodes of other plugins, where the running ComfyUI can do that."""
    from comfy_api import latest

    replace = getattr(io, "NodeReplace", None)
    registry = getattr(latest.ComfyAPI(), "node_replacement", None) if replace else None
    if replace is None or registry is None:
        return
    for fields in replacements:
        await registry.register(replace(**fields))


# Folders


def register_folders() -> None:
    """Make ``models/hypir`` known, and give a folder of that name in extra_model_paths.yaml its endings."""
    folders, endings = folder_paths.folder_names_and_paths.get("hypir", ([], set()))
    own = os.path.join(folder_paths.models_dir, "hypir")  # noqa: PTH118  # ComfyUI keeps strings
    folder_paths.folder_names_and_paths["hypir"] = (
        list(dict.fromkeys([*folders, own])),
        set(endings) | folder_paths.supported_pt_extensions,
    )


def lora_names() -> list[str]:
    """Return the files in the folders ``hypir`` and ``loras``, each name once."""
    return list(
        dict.fromkeys(name for kind in ("hypir", "loras") for name in folder_paths.get_filename_list(kind))
    )


def lora_path(name: str) -> Path:
    """Find a file of `lora_names`.

    Raises:
        WeightsNotFoundError: it is in neither folder; lists them.
    """
    for kind in ("hypir", "loras"):
        path = folder_paths.get_full_path(kind, name)
        if path is not None:
            return Path(path)
    places = [place for kind in ("hypir", "loras") for place in folder_paths.get_folder_paths(kind)]
    raise WeightsNotFoundError(f"{name!r} is in none of {', '.join(places)}; put the LoRA there and press R")


def output_path(prefix: str, ending: str) -> Path:
    """Return a new numbered file below ComfyUI's output folder; its folder exists."""
    folder, name, counter, _, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory()
    )
    return Path(folder) / f"{name}_{counter:05}_{ending}"


# Running


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
        canvas_device=management.intermediate_device(),
        progress=progress,
        should_stop=interrupted,
    )


def interrupted() -> bool:
    """Raise ComfyUI's own exception where the user pressed cancel; else return False."""
    management.throw_exception_if_processing_interrupted()
    return False


def progress_bar(*, picture: int = 0, pictures: int = 1) -> Progress:
    """Return a progress callback that moves this node's bar and shows the canvas filling in.

    Args:
        picture: which picture of a batch this is.
        pictures: how many there are.
    """
    bar = comfy.utils.ProgressBar(BAR_STEPS)
    shown_at = 0.0

    def move(tick: Tick) -> None:
        nonlocal shown_at
        here = tick.whole or tick.done / tick.total
        preview, now = None, time.monotonic()
        if tick.done == tick.total or now - shown_at > PREVIEW_EVERY_S:
            preview, shown_at = ("JPEG", _preview(tick.canvas), PREVIEW_PX), now
        bar.update_absolute(round(BAR_STEPS * (picture + here) / pictures), BAR_STEPS, preview)

    return move


def _preview(canvas: Tensor) -> Image.Image:
    every = max(1, max(canvas.shape[-2:]) // PREVIEW_PX)
    small = canvas[0, :, ::every, ::every].float().cpu()
    if small.shape[0] == len(LATENT_RGB):
        small = torch.einsum("chw,cr->rhw", small, torch.tensor(LATENT_RGB)) / 2 + 0.5
    pixels = small.expand(3, -1, -1).clamp(0, 1).mul(255).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels)


def as_image(image_bhwc: Tensor) -> Tensor:
    """Give a finished picture the format in which ComfyUI passes pictures on."""
    return image_bhwc.to(getattr(management, "intermediate_dtype", lambda: torch.float32)())


@contextmanager
def room_for(module: torch.nn.Module, working_bytes: float) -> Iterator[None]:
    """Ask ComfyUI to make room for a network that it does not manage; bring that back to the CPU afterwards."""
    management.free_memory(management.module_size(module) + working_bytes, device())
    try:
        yield
    finally:
        module.to(management.unet_offload_device())


# MODEL


def prediction(model: Any) -> str:
    """Return ``eps``, ``v`` or another name of what a MODEL predicts."""
    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, comfy.model_sampling.V_PREDICTION):
        return "v"
    return (
        "eps" if type(sampling).calculate_denoised is comfy.model_sampling.EPS.calculate_denoised else "other"
    )


def unet_config(model: Any) -> Mapping[str, Any]:
    """Return ComfyUI's description of a MODEL's architecture."""
    return model.model.model_config.unet_config


def unet_tensors(model: Any) -> dict[str, Tensor]:
    """Return a MODEL's weights by their ldm names, without any patch."""
    return model.model.diffusion_model.state_dict()


def sigma_at(model: Any, timestep: int) -> float:
    """Return σ = √((1 − ā)/ā) at a timestep."""
    return float(model.get_model_object("model_sampling").sigmas[timestep])


def latent_scale(model: Any) -> float:
    """Return the factor between a LATENT and what the UNet sees."""
    return float(model.model.latent_format.scale_factor)


def denoise(model: Any, conditioning: Any, x: Tensor, sigma: float) -> Tensor:
    """Return the clean latent that a MODEL sees in `x` at one noise level, through ComfyUI's sampling.

    Loading, patches, hooks and wrappers of the MODEL all take part. [n 4 h w] → the same, in the units of `x`.
    """

    def once(denoiser: Any, noise: Tensor, sigmas: Tensor, extra_args: dict[str, Any], **_: Any) -> Tensor:
        return denoiser(x.to(noise), sigmas[0].expand(x.shape[0]), **extra_args)

    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": conditioning})
    nothing = torch.zeros_like(x)
    sampler = comfy.samplers.KSAMPLER(once)
    clean = guider.sample(nothing, nothing, sampler, torch.tensor([sigma, 0.0]), disable_pbar=True, seed=0)
    return model.model.process_latent_in(clean.to(x.device))


def step_bytes_per_px(model: Any) -> float:
    """Return ComfyUI's estimate of the step's working memory, per output pixel."""
    return model.memory_required([1, 4, 64, 64]) / 512**2


def model_shared(model: Any) -> SharedLayers:
    """Return the layers of a MODEL's UNet that tiles of a picture share."""
    return SharedLayers(norms=SharedNorms(model.model.diffusion_model))


def place_model(model: Any, tile_px: int, wanted: torch.device) -> None:
    """Load a MODEL with room for one tile; refuse another device than ComfyUI's."""
    _require_device(wanted, model.load_device)
    cells = tile_px // 8
    management.load_models_gpu([model], memory_required=model.memory_required([1, 4, cells, cells]))


def with_lora(model: Any, tensors: Mapping[str, Tensor], strength: float) -> tuple[Any, int]:
    """Return a patched clone of a MODEL and how many of its weights are patched; `tensors` in kohya's names."""
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    patched = model.clone()
    applied = patched.add_patches(comfy.lora.load_lora(dict(tensors), keys), strength)
    return patched, len(applied)


def merged_tensors(model: Any, clip: Any | None, vae: Any | None) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint with every patch in the weights."""
    loaded = [model] if clip is None else [model, clip.load_model()]
    management.load_models_gpu(loaded, force_patch_weights=True)
    owner = model if hasattr(model, "state_dict_for_saving") else model.model
    return owner.state_dict_for_saving(clip and clip.get_sd(), vae and vae.get_sd(), None)


# CLIP and VAE


def encode_text(clip: Any, text: str) -> Any:
    """Return the CONDITIONING of a text."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def vae_stride(vae: Any) -> int:
    """Return how many pixels one latent cell covers along a side.

    Raises:
        SpecMismatchError: not the VAE of a picture model.
    """
    vae.throw_exception_if_invalid()
    if vae.latent_dim != 2 or not isinstance(vae.downscale_ratio, int):
        raise SpecMismatchError("expected the VAE of a picture model, got one for video or sound")
    return vae.downscale_ratio


def place_vae(vae: Any, tile_px: int, wanted: torch.device) -> None:
    """Load a VAE with room for one tile; refuse another device than its own."""
    _require_device(wanted, vae.patcher.load_device)
    cells = tile_px // vae_stride(vae)
    needed = vae.memory_used_decode((1, vae.latent_channels, cells, cells), vae.vae_dtype)
    management.load_models_gpu([vae.patcher], memory_required=needed)


def vae_encode(vae: Any, image_pm1: Tensor) -> Tensor:
    """Return the posterior mean [n c h/s w/s], not scaled, of pictures as the network takes them."""
    return vae.first_stage_model.encode(image_pm1.to(vae.device, vae.vae_dtype)).float()


def vae_decode(vae: Any, latent: Tensor) -> Tensor:
    """Return the picture as the network gives it, of a latent that is not scaled."""
    return vae.first_stage_model.decode(latent.to(vae.device, vae.vae_dtype)).float()


def vae_shared(vae: Any) -> SharedLayers:
    """Return the layers of a VAE that tiles of a picture share."""
    net = vae.first_stage_model
    blocks = (module for module in net.modules() if isinstance(module, AttnBlock))
    attention = SharedAttention(tuple(partial(_with_attention, block) for block in blocks))
    return SharedLayers(norms=SharedNorms(net), attention=attention)


@contextmanager
def _with_attention(block: Any, attend: Attend) -> Iterator[None]:
    """Let a VAE's attention compute by `attend`, with its map as one head of tokens."""

    def over_map(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        tokens = (t.flatten(2).transpose(1, 2)[:, None] for t in (query, key, value))
        return attend(*tokens)[:, 0].transpose(1, 2).unflatten(2, query.shape[-2:])

    before = block.optimized_attention
    block.optimized_attention = over_map
    try:
        yield
    finally:
        block.optimized_attention = before


def vae_ranges(vae: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return the maps from [0,1] to what the network takes and back.

    ComfyUI's own map back clamps. For the usual range, [-1,1], the one returned here does not: tiles are
    blended and resized first.
    """
    ends = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    usual = torch.equal(vae.process_output(ends.clone()), ends / 2 + 0.5)
    return vae.process_input, (lambda image: image / 2 + 0.5) if usual else vae.process_output


def vae_bytes_per_px(vae: Any) -> tuple[float, float]:
    """Return ComfyUI's estimates of the working memory of encode and decode, per output pixel."""
    cells = 512 // vae_stride(vae)
    encode = vae.memory_used_encode((1, 3, 512, 512), vae.vae_dtype)
    decode = vae.memory_used_decode((1, vae.latent_channels, cells, cells), vae.vae_dtype)
    return encode / 512**2, decode / 512**2


def _require_device(wanted: torch.device, own: torch.device) -> None:
    if wanted.type != own.type:
        raise OutOfMemoryError(
            f"out of memory on {own} with the smallest tile; start ComfyUI with --lowvram, close other "
            "programs, or ask for a smaller size"
        )


def require(connected: bool, message: str) -> None:
    """Raise ConfigError unless the sockets go together."""
    if not connected:
        raise ConfigError(message)
