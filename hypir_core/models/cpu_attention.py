"""Attention in bfloat16 on CPUs whose fused kernel is slow: plain matrix products, head by head.

torch's fused attention reaches a sixth of the rate of its own matrix products on a CPU with AVX-512 bfloat16
and no AMX (`benchmarks/README.md`). Queries go in chunks, so that a chunk's weights stay in the cache. Where there is
little to do per head, all heads go together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..device import cpu_bfloat16_units

CHUNK = 512
"""Queries at a time."""

FEW, MANY = 128, 2048
"""With this few queries or keys, and no more than MANY of the others, all heads are one batched product."""


def use_cpu_attention_(net: nn.Module) -> int:
    """Let the plain attentions of a diffusers UNet or VAE use `attention`, in place; return how many.

    Attentions with masks, query norms or spatial norms stay as they are. Gradients cannot pass.
    """
    changed = 0
    for module in net.modules():
        if type(module).__name__ == "Attention" and _is_plain(module):
            attention_module: Any = module
            attention_module.processor = _Processor()
            changed += 1
    return changed


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(Q·Kᵀ/√d)·V, [b h n d] with keys and values [b h m d], all of one format.

    In bfloat16 on a CPU without AMX by matrix products, else by torch's fused kernel.
    """
    if not _products_are_quicker(query):
        return F.scaled_dot_product_attention(query, key, value)
    scale = query.shape[-1] ** -0.5
    lengths = (query.shape[-2], key.shape[-2])
    if min(lengths) <= FEW and max(lengths) <= MANY:
        return ((query * scale) @ key.transpose(-1, -2)).softmax(-1) @ value
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    heads = (t.flatten(0, 1) for t in (query, key, value, out))
    for q, k, v, o in zip(*heads, strict=True):
        scaled, turned, values = (q * scale).contiguous(), k.t().contiguous(), v.contiguous()
        for first in range(0, len(q), CHUNK):
            weights = torch.mm(scaled[first : first + CHUNK], turned).softmax(-1)
            torch.mm(weights, values, out=o[first : first + CHUNK])
    return out


def _products_are_quicker(tokens: Tensor) -> bool:
    return tokens.device.type == "cpu" and tokens.dtype == torch.bfloat16 and cpu_bfloat16_units() == "AVX512"


def _is_plain(module: nn.Module) -> bool:
    m: Any = module
    absent = ("spatial_norm", "norm_q", "norm_k", "norm_cross", "add_k_proj", "add_q_proj")
    return not any(getattr(m, name, None) for name in absent) and type(m.processor).__name__ in {
        "AttnProcessor",
        "AttnProcessor2_0",
    }


class _Processor:
    """What diffusers calls for an attention: [b n c] or a map [b c h w] → the same."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        del temb
        assert attention_mask is None, "Stable Diffusion masks nothing"
        is_map = hidden_states.ndim == 4
        tokens = hidden_states.flatten(2).transpose(1, 2) if is_map else hidden_states
        if attn.group_norm is not None:
            tokens = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
        seen = tokens if encoder_hidden_states is None else _once(encoder_hidden_states)
        projected = (attn.to_q(tokens), attn.to_k(seen), attn.to_v(seen))
        query, key, value = (
            t.unflatten(-1, (attn.heads, -1)).transpose(1, 2).expand(len(tokens), -1, -1, -1)
            for t in projected
        )
        out = attn.to_out[0](attention(query, key, value).transpose(1, 2).flatten(2))
        if is_map:
            out = out.transpose(1, 2).unflatten(2, hidden_states.shape[-2:])
        if attn.residual_connection:
            out = out + hidden_states
        return out if attn.rescale_output_factor == 1 else out / attn.rescale_output_factor


def _once(words: Tensor) -> Tensor:
    """Return the first of a batch that is one prompt expanded: its keys and values are computed once."""
    return words[:1] if words.stride(0) == 0 else words
