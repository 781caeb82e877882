"""ComfyUI's VAE."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import comfy.lora
import comfy.model_management as management
import torch
from comfy.ldm.modules.diffusionmodules.model import AttnBlock
from torch import Tensor

from ...hypir_core.errors import SpecMismatchError
from ...hypir_core.models.layers.attention_processor import Attend
from ...hypir_core.models.layers.shared_attention import SharedAttention
from ...hypir_core.models.layers.shared_layers import SharedLayers
from ...hypir_core.models.layers.shared_norms import SharedNorms
from .lora import with_differences
from .memory import require_device


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
    require_device(wanted, vae.patcher.load_device)
    cells = tile_px // vae_stride(vae)
    needed = vae.memory_used_decode((1, vae.latent_channels, cells, cells), vae.vae_dtype)
    management.load_models_gpu([vae.patcher], memory_required=needed)


def vae_encode(vae: Any, image_pm1: Tensor) -> Tensor:
    """Return the posterior mean [n c h/s w/s], not scaled, of pictures as the network takes them."""
    return vae.first_stage_model.encode(image_pm1.to(vae.device, vae.vae_dtype)).float()


def vae_decode(vae: Any, latent: Tensor) -> Tensor:
    """Return the picture as the network gives it, of a latent that is not scaled."""
    return vae.first_stage_model.decode(latent.to(vae.device, vae.vae_dtype)).float()


@contextmanager
def in_float32(vae: Any) -> Iterator[None]:
    """Let a VAE compute in float32 for a while. The weights keep what rounding they had."""
    before = vae.vae_dtype
    vae.first_stage_model.to(torch.float32)
    vae.vae_dtype = torch.float32
    try:
        yield
    finally:
        vae.first_stage_model.to(before)
        vae.vae_dtype = before


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


def vae_tensors(vae: Any) -> dict[str, Tensor]:
    """Return a VAE's weights by their own names, without any patch."""
    return dict(vae.first_stage_model.state_dict())


def patched_vae_tensors(vae: Any) -> dict[str, Tensor]:
    """Return a VAE's weights by their own names, with its patches in them."""
    own, patches = dict(vae.get_sd()), vae.patcher.patches
    for name in own.keys() & patches.keys():
        weight = own[name].to("cpu", torch.float32, copy=True)
        own[name] = comfy.lora.calculate_weight(patches[name], weight, name).to(own[name].dtype)
    return own


def with_vae_differences(vae: Any, differences: Mapping[str, Tensor], strength: float) -> tuple[Any, int]:
    """Return a patched copy of a VAE, which shares its network, and how many of its weights are patched."""
    other = copy.copy(vae)
    other.patcher = vae.patcher.clone()
    return other, with_differences(other.patcher, differences, strength)


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
