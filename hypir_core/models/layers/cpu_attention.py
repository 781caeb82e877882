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

from ...device import cpu_bfloat16_units
from .attention_processor import PlainProcessor, is_plain_attention

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
        if is_plain_attention(module):
            attention_module: Any = module
            attention_module.processor = PlainProcessor(attention)
            changed += 1
    return changed


def attention(query: Tensor, key: Tensor, value: Tensor, log_counts: Tensor | None = None) -> Tensor:
    """Return softmax(Q·Kᵀ/√d + log w)·V, [b h n d] with keys and values [b h m d], all of one format.

    In bfloat16 on a CPU without AMX by matrix products, else by torch's fused kernel. `log_counts` [m] says how many
    times a key counts; None, that each counts once.
    """
    bias = None if log_counts is None else log_counts.to(query.dtype)
    if not _products_are_quicker(query):
        mask = None if bias is None else bias.expand(query.shape[-2], -1)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scale = query.shape[-1] ** -0.5
    lengths = (query.shape[-2], key.shape[-2])
    if min(lengths) <= FEW and max(lengths) <= MANY:
        logits = (query * scale) @ key.transpose(-1, -2)
        return (logits if bias is None else logits + bias).softmax(-1) @ value
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    heads = (t.flatten(0, 1) for t in (query, key, value, out))
    for q, k, v, o in zip(*heads, strict=True):
        scaled, turned, values = (q * scale).contiguous(), k.t().contiguous(), v.contiguous()
        for first in range(0, len(q), CHUNK):
            some = scaled[first : first + CHUNK]
            logits = torch.mm(some, turned) if bias is None else torch.addmm(bias, some, turned)
            torch.mm(logits.softmax(-1), values, out=o[first : first + CHUNK])
    return out


def _products_are_quicker(tokens: Tensor) -> bool:
    return tokens.device.type == "cpu" and tokens.dtype == torch.bfloat16 and cpu_bfloat16_units() == "AVX512"
