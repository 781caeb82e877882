"""Folding a constant timestep into a UNet, once, so that no tile pays for it.

A restorer only ever calls its UNet at one timestep. Its time embedding is then a constant vector per resnet
that is added right after the first convolution, so it belongs into that convolution's bias:
conv1(h) + b + P·σ(e) = conv1(h) + b', with e the embedding, σ SiLU and P the resnet's projection.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...errors import SpecMismatchError


class NoEmbedding(nn.Module):
    """Stands where a time embedding was: there is nothing left to embed."""

    def forward(self, *_: Any) -> None:
        """Return None, which a diffusers resnet takes for "no time embedding"."""


def fold_timestep_(unet: nn.Module, timestep: int) -> int:
    """Make a diffusers `UNet2DConditionModel` that ignores its timestep and acts as at `timestep`.

    Exact up to the rounding of one addition; do it in float32, after a LoRA was merged and before the cast.
    The time embedding and the resnets' projections are removed from the module.

    Returns:
        How many resnets were folded; 22 for Stable Diffusion.

    Raises:
        SpecMismatchError: the time embedding does more than that addition in this UNet.
    """
    u: Any = unet
    resnets = [m for m in unet.modules() if isinstance(getattr(m, "time_emb_proj", None), nn.Linear)]
    others = {getattr(m, "time_embedding_norm", "default") for m in resnets} - {"default"}
    extras = [
        n for n in ("class_embedding", "add_embedding", "time_embed_act") if getattr(u, n, None) is not None
    ]
    if others or extras:
        raise SpecMismatchError(
            f"expected a UNet whose timestep is only added to features, got {', '.join([*others, *extras])}; "
            "give Stable Diffusion 2.1-base"
        )
    with torch.no_grad():
        embedding = _embedding(u, timestep)
        for resnet in resnets:
            r: Any = resnet
            act = embedding if r.skip_time_act else r.nonlinearity(embedding)
            r.conv1.bias.add_(r.time_emb_proj(act)[0])
            r.time_emb_proj = None
    u.time_embedding = NoEmbedding()
    return len(resnets)


def _embedding(unet: Any, timestep: int) -> Tensor:
    weight: Tensor = unet.time_embedding.linear_1.weight
    sinusoid = unet.time_proj(torch.tensor([timestep], device=weight.device))
    return unet.time_embedding(sinusoid.to(weight.dtype))
