"""A light decoder: the VAE's own, pruned to half of its channels, for the same latents.

AdcSR (Chen et al., arXiv 2411.13383, section 3.2) trained one of (64, 128, 256, 256) channels instead of (128, 256, 512,
512), published as ``halfDecoder.ckpt`` under Apache-2.0: about a quarter of the arithmetic. It reads what the VAE's
`post_quant_conv` gives, as the full decoder does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import SpecMismatchError, WeightsError
from ...weights.base_names import vae_tensors
from .backbone import fill
from .sd21 import SD21_VAE

WANTED = "the decoder of a Stable Diffusion VAE with fewer channels (AdcSR's halfDecoder.ckpt)"

GROUPS = 32
"""Of every norm, as in the full decoder."""

LATENT_CHANNELS, LEVELS = 4, 4

_MARKS = ("decoder.conv_in.weight", "conv_in.weight")


def decoder_tensors(tensors: Mapping[str, Tensor], where: Path) -> dict[str, Tensor] | None:
    """Return the tensors of a VAE's decoder in a file, by diffusers' names; None: it holds none."""
    if not any(name.endswith(("conv_norm_out.weight", "norm_out.weight")) for name in tensors):
        return None
    named = dict(tensors)
    if _MARKS[0] not in named and _MARKS[1] in named:
        named = {f"decoder.{name}": tensor for name, tensor in named.items()}
    try:
        inside = vae_tensors(named, where=where)
    except WeightsError:
        return None
    return {name.removeprefix("decoder."): t for name, t in inside.items() if name.startswith("decoder.")}


def light_decoder(tensors: Mapping[str, Tensor], where: Path) -> tuple[nn.Module, tuple[int, ...]]:
    """Build the decoder that the tensors fit, frozen; return it and the channels of its levels, the finest first.

    Raises:
        SpecMismatchError: it is no decoder of this kind, or as large as the VAE's own.
    """
    from diffusers.models.autoencoders.vae import Decoder

    levels = sorted(
        {int(name.split(".")[1]) for name in tensors if name.startswith("up_blocks.")}, reverse=True
    )
    widths = tuple(
        tensors[key].shape[0] for n in levels if (key := f"up_blocks.{n}.resnets.0.conv2.weight") in tensors
    )
    conv_in = tensors.get("conv_in.weight")
    latent = 0 if conv_in is None else conv_in.shape[1]
    own = tuple(SD21_VAE["block_out_channels"])
    if (
        len(widths) != LEVELS
        or len(levels) != LEVELS
        or latent != LATENT_CHANNELS
        or any(width % GROUPS for width in widths)
        or sum(widths) >= sum(own)
    ):
        raise SpecMismatchError(
            f"{where}: expected {WANTED}: {LATENT_CHANNELS} latent channels, {LEVELS} levels in multiples of {GROUPS} "
            f"and narrower than {own}; got {latent} latent channels and levels of {widths}; give another file, or "
            "leave out fast_decoder"
        )
    resnets = {int(name.split(".")[3]) for name in tensors if name.startswith("up_blocks.0.resnets.")}
    with torch.device("meta"):
        net: Any = Decoder(
            in_channels=LATENT_CHANNELS,
            out_channels=3,
            up_block_types=("UpDecoderBlock2D",) * LEVELS,
            block_out_channels=widths,
            layers_per_block=len(resnets) - 1,
            norm_num_groups=GROUPS,
        )
    return fill(net, tensors, torch.float32, where, wanted=WANTED), widths
