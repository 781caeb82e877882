"""The public architecture of Stable Diffusion 2.1-base, as diffusers and transformers configurations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import torch

from ...errors import MissingDependencyError
from ...lora.names import WeightShape, adaptable_modules

SD21_UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": (
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "DownBlock2D",
    ),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": (5, 10, 20, 20),  # diffusers' old name for the number of heads
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
"""Arguments of `diffusers.UNet2DConditionModel`; 865.9 M parameters."""

SD21_VAE: dict[str, Any] = {
    "sample_size": 512,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "scaling_factor": 0.18215,
}
"""Arguments of `diffusers.AutoencoderKL`; 83.7 M parameters."""

SD21_TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": 512,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
"""Arguments of `transformers.CLIPTextConfig`: the OpenCLIP-H text tower without its last layer."""

TINY_UNET: dict[str, Any] = SD21_UNET | {
    "block_out_channels": (32, 32, 64, 64),
    "layers_per_block": 1,
    "attention_head_dim": (2, 2, 4, 4),
    "cross_attention_dim": 32,
    "norm_num_groups": 16,
}
TINY_VAE: dict[str, Any] = SD21_VAE | {
    "block_out_channels": (16, 16, 32, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
TINY_TEXT_ENCODER: dict[str, Any] = SD21_TEXT_ENCODER | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
"""The same layout, a thousandth of the size: for trying a whole run."""


@cache
def sd21_module_shapes() -> Mapping[str, WeightShape]:
    """Return `unet_module_shapes` of SD 2.1, computed once."""
    return MappingProxyType(unet_module_shapes(SD21_UNET))


def unet_module_shapes(config: Mapping[str, Any]) -> dict[str, WeightShape]:
    """Return name → weight shape of the UNet's Linear and Conv2d modules, without making its weights.

    Raises:
        MissingDependencyError: diffusers is not installed.
    """
    try:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    except ImportError as err:
        raise MissingDependencyError("diffusers", "diffusion", "the list of a UNet's modules") from err
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(dict(config))
    return adaptable_modules(dict(unet.named_parameters()))
