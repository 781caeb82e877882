"""ComfyUI's MODEL and CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.model_management as management
import comfy.model_sampling
import comfy.samplers
import torch
from torch import Tensor, nn

from ...hypir_core.models.layers.shared_layers import SharedLayers
from ...hypir_core.models.layers.shared_norms import SharedNorms
from .memory import require_device
from .regions import at_step, holds
from .vae import patched_vae_tensors


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
    """Return a MODEL's weights by their ldm names, without any patch, also where torch.compile wraps the network."""
    tensors = model.model.diffusion_model.state_dict()
    return {name.removeprefix("_orig_mod."): tensor for name, tensor in tensors.items()}


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


def conditioning_at(model: Any, conditioning: Any, sigma: float) -> list[Any]:
    """Return the entries of a CONDITIONING that hold at one noise level."""
    return at_step(conditioning, model.get_model_object("model_sampling"), sigma)


def step_bytes_per_px(model: Any) -> float:
    """Return ComfyUI's estimate of the step's working memory, per output pixel."""
    return model.memory_required([1, 4, 64, 64]) / 512**2


def a_bars(model: Any) -> Tensor:
    """Return ā of every timestep, [timesteps], float64 on the CPU."""
    sigmas = model.get_model_object("model_sampling").sigmas.double().cpu()
    return 1 / (1 + sigmas.square())


def holds_at(model: Any, options: Mapping[str, Any], sigma: float) -> bool:
    """Say whether an entry of a CONDITIONING holds at one noise level."""
    return holds(options, model.get_model_object("model_sampling"), sigma)


def model_shared(model: Any, others: Sequence[nn.Module] = ()) -> SharedLayers:
    """Return the layers of a MODEL's UNet, and of the networks beside it, that tiles of a picture share."""
    beside = [extra.model for extra in model.get_nested_additional_models()]
    nets = nn.ModuleList((model.model.diffusion_model, *beside, *others))
    return SharedLayers(norms=SharedNorms(nets))


def place_model(model: Any, tile_px: int, wanted: torch.device) -> None:
    """Load a MODEL with room for one tile; refuse another device than ComfyUI's."""
    require_device(wanted, model.load_device)
    cells = tile_px // 8
    loaded = [model, *model.get_nested_additional_models()]
    management.load_models_gpu(loaded, memory_required=model.memory_required([1, 4, cells, cells]))


def merged_tensors(model: Any, clip: Any | None, vae: Any | None) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint with every patch in the weights.

    A newer ComfyUI patches a weight only when `Tensor.to("cpu")` is called on it, one after the other; what that returns
    has the model's own format, whatever else the call asks for.
    """
    loaded = [model] if clip is None else [model, clip.load_model()]
    patches_while_saving = hasattr(model, "state_dict_for_saving")
    if patches_while_saving:  # its dynamic patcher refuses to force patches into weights
        management.load_models_gpu(loaded)
        for patcher in loaded:
            # Small tensors (norms) it patches on loading nevertheless, and would patch a second time while saving.
            getattr(patcher, "restore_loaded_backups", lambda: None)()
    else:
        management.load_models_gpu(loaded, force_patch_weights=True)
    owner = model if patches_while_saving else model.model
    of_clip = None
    if clip is not None:
        of_clip = clip.state_dict_for_saving() if hasattr(clip, "state_dict_for_saving") else clip.get_sd()
    return owner.state_dict_for_saving(of_clip, None if vae is None else patched_vae_tensors(vae), None)


def encode_text(clip: Any, text: str) -> Any:
    """Return the CONDITIONING of a text."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))
