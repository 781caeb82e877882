"""A distance between a picture and the true one that follows perception more than squared error does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def feature_distance(vae: Any, image_01: Tensor, truth_01: Tensor) -> Tensor:
    """Return LPIPS's distance on the encoder of a VAE instead of a classifier's layers; 0 for equal pictures.

    Zhang et al., arXiv 1801.03924, eq. 1 with all weights 1: features of every level, scaled to unit length
    along the channels, squared difference, mean over cells, summed over levels.

    Shapes: both [b 3 h w], [0,1]; returns [b].
    """
    return torch.stack(
        [
            (F.normalize(mine, dim=1) - F.normalize(true, dim=1)).square().sum(1).mean((1, 2))
            for mine, true in zip(_features(vae, image_01), _features(vae, truth_01), strict=True)
        ]
    ).sum(0)


def _features(vae: Any, image_01: Tensor) -> list[Tensor]:
    x = vae.encoder.conv_in(image_01 * 2 - 1)
    levels = []
    for block in vae.encoder.down_blocks:
        x = block(x)
        levels.append(x)
    return levels
