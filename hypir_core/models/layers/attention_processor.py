"""What diffusers calls for an attention, with the attention itself handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(queries [b h n d], keys [b h m d], values [b h m d]) → [b h n d]."""


def is_plain_attention(module: nn.Module) -> bool:
    """Say whether a module is diffusers' attention, without masks, query norms or spatial norms."""
    m: Any = module
    absent = ("spatial_norm", "norm_q", "norm_k", "norm_cross", "add_k_proj", "add_q_proj")
    return (
        type(module).__name__ == "Attention"
        and not any(getattr(m, name, None) for name in absent)
        and type(m.processor).__name__ in {"AttnProcessor", "AttnProcessor2_0", "PlainProcessor"}
    )


@dataclass(frozen=True)
class PlainProcessor:
    """Projections, `attend`, projection, residual: [b n c] or a map [b c h w] → the same."""

    attend: Attend

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Compute the attention layer `attn`, as diffusers' own processors do."""
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
        out = attn.to_out[0](self.attend(query, key, value).transpose(1, 2).flatten(2))
        if is_map:
            out = out.transpose(1, 2).unflatten(2, hidden_states.shape[-2:])
        if attn.residual_connection:
            out = out + hidden_states
        return out if attn.rescale_output_factor == 1 else out / attn.rescale_output_factor


def _once(words: Tensor) -> Tensor:
    """Return the first of a batch that is one prompt expanded: its keys and values are computed once."""
    return words[:1] if words.stride(0) == 0 else words
