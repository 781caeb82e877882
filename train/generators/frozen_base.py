"""The base model that generators of Stable Diffusion stand on: found on this machine, frozen, told prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from hypir_core.errors import WeightsNotFoundError
from hypir_core.models.sd.backbone import Backbone
from hypir_core.models.sd.prompt import PromptTokens, encode_prompt, tokenize
from hypir_core.weights.search.base_files import BaseFiles
from hypir_core.weights.search.locate import locate_base
from hypir_core.weights.search.wanted_base import SD21_BASE, WantedBase

from ..config import Precision
from .cut_prompts import CutPrompts

FROZEN_DTYPE = {
    Precision.fp32: torch.float32,
    Precision.bf16: torch.bfloat16,
    Precision.fp16: torch.float16,
}
"""Number format of the frozen weights; what is trained is float32 in any case."""

PROMPTS_KEPT = 64
"""How many prompts' conditions are remembered on the device; 0.3 MB each."""


def find_base_model(given: str | None, *, wanted: WantedBase = SD21_BASE) -> BaseFiles:
    """Find the files of the base model; nothing is fetched.

    Raises:
        WeightsNotFoundError: they are nowhere to be found; names the key.
    """
    try:
        return locate_base(given, wanted=wanted)
    except WeightsNotFoundError as err:
        raise WeightsNotFoundError(f"base_model: {err}\nthen set base_model=PATH") from err


def conditions(backbone: Backbone, device: torch.device, cut_prompts: CutPrompts) -> Callable[..., Tensor]:
    """Return a function from prompts to what the UNet's cross-attention reads, [b 77 width] on `device`.

    The empty prompt is encoded here. The text encoder goes to the device with the first other one. Prompts are
    counted in `cut_prompts` when the function is called with `count`: those of training, not of validation.
    """

    @lru_cache(maxsize=PROMPTS_KEPT)
    def encode(prompt: str) -> tuple[Tensor, PromptTokens]:
        if prompt.strip():
            backbone.text_encoder.to(device)
        tokens = tokenize(prompt, backbone.tokenizer, vocabulary=backbone.vocabulary)
        return encode_prompt(backbone.text_encoder, tokens.ids).to(device), tokens

    def conditions_of(prompts: Sequence[str], *, count: bool) -> Tensor:
        read = []
        for prompt in prompts:
            condition, tokens = encode(prompt)
            if count:
                cut_prompts.count(prompt, tokens)
            read.append(condition)
        return torch.cat(read)

    encode("")
    return conditions_of


def hash_of(*nets: nn.Module) -> str:
    """Return a SHA-256 over the norms' and biases' numbers: tells base models apart in milliseconds."""
    digest = hashlib.sha256()
    for net in nets:
        for name, p in net.named_parameters():
            if p.ndim == 1:
                digest.update(name.encode() + p.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()
