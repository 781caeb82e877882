"""SeeSR with random numbers, in full size for benchmarks and tiny for trying a whole run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ....diffusion.scheduler_file import Sampling
from ....diffusion.timesteps import Spacing
from ....models.sd.controlnet import ControlNet, empty_controlnet
from ....models.sd.image_blocks import MergeReport, add_empty_image_blocks_
from ....models.sd.random_sd21 import SEED, fill_randomly_, random_backbone
from ....models.sd.sd21 import (
    SD21_TEXT_ENCODER,
    SD21_UNET,
    SD21_VAE,
    TINY_TEXT_ENCODER,
    TINY_UNET,
    TINY_VAE,
)
from ....request import Tag
from ..options import RandomWeights
from .making import SeesrParts
from .options import SeesrOptions

TOKENS, TOKEN_WIDTH = 145, 512
"""What RAM sees in a picture: 144 places and their mean."""

CONFIGS = {
    RandomWeights.sd_turbo: (SD21_UNET, SD21_VAE, SD21_TEXT_ENCODER),
    RandomWeights.tiny: (TINY_UNET, TINY_VAE, TINY_TEXT_ENCODER),
}


@dataclass(frozen=True, eq=False)
class RandomTokens:
    """Stands for a tagger: no tags, and the same tokens for every picture."""

    tokens: Tensor
    tags: tuple[Tag, ...] = ()


def random_parts(options: SeesrOptions, *, numbers: bool = True) -> SeesrParts:
    """Return everything but real weights.

    Args:
        options: `random_weights` names the size.
        numbers: False leaves all networks on torch's meta device, shapes only.
    """
    kind = options.random_weights or RandomWeights.sd_turbo
    unet_config, vae_config, text_config = CONFIGS[kind]
    rng = torch.Generator().manual_seed(SEED + 1)
    backbone = random_backbone(unet_config, vae_config, text_config, numbers=numbers)
    net = empty_controlnet(unet_config)
    for one in (backbone.unet, net):
        add_empty_image_blocks_(one, width=TOKEN_WIDTH)
        if numbers:
            fill_randomly_(one, rng, only_empty=True)
    tokens = torch.randn(1, TOKENS, TOKEN_WIDTH, generator=rng)
    seen = RandomTokens(tokens if numbers else tokens.to("meta"))
    label = "random SeeSR" if numbers else "no weights"
    return SeesrParts(
        backbone=replace(backbone, found_in=label),
        sampling=Sampling(spacing=Spacing.trailing),
        image_blocks=True,
        control=ControlNet(net=net, image_blocks=MergeReport(merged=0, unused=0))
        if options.control_strength > 0
        else None,
        look=lambda _image: seen,
        build=lambda _tags, _user, _words: ("", ()),
        weights=label,
        licence="none: random numbers",
        notes=("random weights: the words are not read, and the picture means nothing",) if numbers else (),
    )
