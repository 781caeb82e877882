"""Folding constant timesteps into a network of Stable Diffusion, once, so that no tile pays for them.

A restorer calls its UNet at one timestep, or at a few. The time embedding of each is then a constant vector per resnet
that is added right after the first convolution, so it belongs into that convolution's bias:
conv1(h) + b + P·σ(e) = conv1(h) + b', with e the embedding, σ SiLU and P the resnet's projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import SpecMismatchError

TABLE = "bias_at"
"""Name of the buffer [timesteps channels] that a folded convolution keeps, beside its weights."""


class NoEmbedding(nn.Module):
    """Stands where a time embedding was: there is nothing left to embed."""

    def forward(self, *_: Any) -> None:
        """Return None, which a diffusers resnet takes for "no time embedding"."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedTimesteps:
    """The timesteps that were folded into a network."""

    timesteps: tuple[float, ...]
    convolutions: tuple[nn.Conv2d, ...]
    """The first convolution of every resnet."""

    def use(self, timestep: float) -> None:
        """Let the network act as at `timestep`, one of those that were folded."""
        number = self.timesteps.index(timestep)
        for convolution in self.convolutions:
            table: Any = getattr(convolution, TABLE)
            assert convolution.bias is not None
            convolution.bias.data = table[number]


def fold_timesteps_(net: nn.Module, timesteps: Sequence[float]) -> FoldedTimesteps:
    """Make a diffusers UNet or ControlNet that ignores its timestep and acts as at the one that is in use.

    Exact up to the rounding of one addition; do it in float32, after a LoRA was merged and before the cast.
    The time embedding and the resnets' projections are removed from the module. The first timestep is in use.

    Raises:
        SpecMismatchError: the time embedding does more than that addition in this network.
    """
    u: Any = net
    resnets = [m for m in net.modules() if isinstance(getattr(m, "time_emb_proj", None), nn.Linear)]
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
        embeddings = _embeddings(u, timesteps)
        for resnet in resnets:
            r: Any = resnet
            act = embeddings if r.skip_time_act else r.nonlinearity(embeddings)
            r.conv1.register_buffer(TABLE, r.conv1.bias + r.time_emb_proj(act), persistent=False)
            r.time_emb_proj = None
    u.time_embedding = NoEmbedding()
    convolutions: list[Any] = [resnet.conv1 for resnet in resnets]
    folded = FoldedTimesteps(timesteps=tuple(timesteps), convolutions=tuple(convolutions))
    folded.use(timesteps[0])
    return folded


def fold_timestep_(unet: nn.Module, timestep: int) -> int:
    """Fold one timestep, for good: see `fold_timesteps_`.

    Returns:
        How many resnets were folded; 22 for Stable Diffusion.
    """
    folded = fold_timesteps_(unet, (timestep,))
    for convolution in folded.convolutions:
        assert convolution.bias is not None
        convolution.bias.data = convolution.bias.data.clone()
        delattr(convolution, TABLE)
    return len(folded.convolutions)


def _embeddings(unet: Any, timesteps: Sequence[float]) -> Tensor:
    """Return the embedding of every timestep, [timesteps width]."""
    weight: Tensor = unet.time_embedding.linear_1.weight
    sinusoid = unet.time_proj(torch.tensor(timesteps, device=weight.device))
    return unet.time_embedding(sinusoid.to(weight.dtype))
