"""Stable Diffusion 2.1 in full size with random numbers, for benchmarks without the real weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...diffusion.schedule import NoiseSchedule
from ...lora.file import Lora, factor_shapes
from ...lora.merge import merge_lora_
from ...lora.names import adaptable_modules, adapted_modules
from ...weights.spec import Prediction
from .backbone import Backbone, empty_text_encoder, empty_unet, empty_vae, facts
from .sd21 import SD21_TEXT_ENCODER, SD21_UNET, SD21_VAE

SEED = 231


def random_backbone(
    unet: Mapping[str, Any] = SD21_UNET,
    vae: Mapping[str, Any] = SD21_VAE,
    text_encoder: Mapping[str, Any] = SD21_TEXT_ENCODER,
    *,
    seed: int = SEED,
    numbers: bool = True,
) -> Backbone:
    """Return a base model with weights drawn from N(0, 1/fan_in), so that activations stay of order one.

    Args:
        unet: configuration for diffusers; 865.9 M parameters by default.
        vae: likewise; 83.7 M.
        text_encoder: configuration for transformers; 340.4 M.
        seed: of the weights; the same seed gives the same model.
        numbers: False leaves the networks on torch's meta device, shapes only.
    """
    rng = torch.Generator().manual_seed(seed)
    nets = [
        fill_randomly_(empty(config), rng) if numbers else empty(config)
        for empty, config in ((empty_unet, unet), (empty_vae, vae), (empty_text_encoder, text_encoder))
    ]
    return Backbone(
        unet=nets[0],
        vae=nets[1],
        text_encoder=nets[2],
        tokenizer=None,
        schedule=NoiseSchedule(),
        prediction=Prediction.eps,
        **facts(nets[0], nets[1], text_encoder),
        found_in="random Stable Diffusion 2.1",
    )


def random_lora_(unet: nn.Module, *, rank: int, seed: int = SEED) -> None:
    """Merge a small random LoRA into every module that a one-step LoRA adapts, in place."""
    rng = torch.Generator().manual_seed(seed)
    modules = adapted_modules(adaptable_modules(dict(unet.named_parameters())))
    factors = {
        name: (_normal(down, rng), _normal(up, rng) * 0.1)
        for name, shape in modules.items()
        for down, up in [factor_shapes(shape, rank)]
    }
    merge_lora_(unet, Lora(factors=factors, rank=rank, alpha=float(rank)))


def fill_randomly_(net: nn.Module, rng: torch.Generator, *, only_empty: bool = False) -> nn.Module:
    """Give a module its numbers: norms 1, biases 0, the rest random; returns it, frozen.

    Args:
        net: on the meta device; with `only_empty`, parts of it may have numbers, which stay.
        rng: where the numbers come from.
        only_empty: leave alone what is not on the meta device.
    """
    weights = {
        name: _normal(tuple(weight.shape), rng)
        if weight.ndim > 1
        else torch.full(weight.shape, _constant(name))
        for name, weight in net.named_parameters()
        if weight.is_meta or not only_empty
    }
    net.load_state_dict(weights, assign=True, strict=not only_empty)
    return net.eval().requires_grad_(False)


def _constant(name: str) -> float:
    return float(name.endswith(".weight"))


def _normal(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=rng) / math.sqrt(math.prod(shape[1:]))
