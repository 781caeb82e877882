"""ComfyUI's MODEL and CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_management as management
import comfy.model_sampling
import comfy.samplers
import torch
from torch import Tensor

from ...hypir_core.models.layers.shared_layers import SharedLayers
from ...hypir_core.models.layers.shared_norms import SharedNorms
from .memory import require_device


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


def computing_in_float32(model: Any) -> Any | None:
    """Return a clone of a MODEL that computes in float32, casting weights in use; None where that cannot be."""
    if not hasattr(model, "set_model_compute_dtype"):
        return None
    wide = model.clone()
    wide.set_model_compute_dtype(torch.float32)
    return wide


def step_bytes_per_px(model: Any) -> float:
    """Return ComfyUI's estimate of the step's working memory, per output pixel."""
    return model.memory_required([1, 4, 64, 64]) / 512**2


def model_shared(model: Any) -> SharedLayers:
    """Return the layers of a MODEL's UNet that tiles of a picture share."""
    return SharedLayers(norms=SharedNorms(model.model.diffusion_model))


def place_model(model: Any, tile_px: int, wanted: torch.device) -> None:
    """Load a MODEL with room for one tile; refuse another device than ComfyUI's."""
    require_device(wanted, model.load_device)
    cells = tile_px // 8
    management.load_models_gpu([model], memory_required=model.memory_required([1, 4, cells, cells]))


def merged_tensors(model: Any, clip: Any | None, vae: Any | None) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint with every patch in the weights."""
    loaded = [model] if clip is None else [model, clip.load_model()]
    management.load_models_gpu(loaded, force_patch_weights=True)
    owner = model if hasattr(model, "state_dict_for_saving") else model.model
    return owner.state_dict_for_saving(clip and clip.get_sd(), vae and vae.get_sd(), None)


def encode_text(clip: Any, text: str) -> Any:
    """Return the CONDITIONING of a text."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))
