"""Distances between a picture and the true one that follow perception more than squared error does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hypir_core.errors import ShapeError
from hypir_core.metrics.fidelity import luma

GMSD_C = 170 / 255**2
"""The stabilising constant for pictures in [0,1]; the paper gives 170 for 8-bit levels."""

LEAST_PX = 8
"""Smallest side for which a gradient at half the size is left."""


def gmsd(image_01: Tensor, truth_01: Tensor) -> Tensor:
    """Return the gradient magnitude similarity deviation: 0 for equal pictures, lower is better.

    Xue, Zhang, Mou, Bovik, "Gradient Magnitude Similarity Deviation", IEEE TIP 23(2), 2014, eq. 1 to 6: luma,
    2×2 means taken at every second pixel, Prewitt gradients, standard deviation of their similarity.

    Shapes: both [b 1|3 h w], [0,1], sides of at least 8 px; returns [b].

    Raises:
        ShapeError: the pictures differ in size or are too small.
    """
    if image_01.shape[-2:] != truth_01.shape[-2:] or min(truth_01.shape[-2:]) < LEAST_PX:
        raise ShapeError(
            f"GMSD needs two pictures of one size, sides of at least {LEAST_PX} px, got "
            f"{list(image_01.shape)} and {list(truth_01.shape)}"
        )
    mine, true = _gradients(_halved_luma(image_01)), _gradients(_halved_luma(truth_01))
    similarity = (2 * mine * true + GMSD_C) / (mine.square() + true.square() + GMSD_C)
    return similarity.flatten(1).std(dim=1, unbiased=False)


def detail_ratio(image_01: Tensor, truth_01: Tensor) -> Tensor:
    """Return the mean luma gradient of a picture over that of the true one: below 1 too soft, above too rough.

    Shapes: both [b 1|3 h w], [0,1]; returns [b].
    """
    return _gradients(luma(image_01)).mean((1, 2, 3)) / _gradients(luma(truth_01)).mean((1, 2, 3))


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


def _halved_luma(image_01: Tensor) -> Tensor:
    return F.avg_pool2d(luma(image_01), 2)


def _gradients(plane: Tensor) -> Tensor:
    """Return the magnitude of the Prewitt gradient of [b 1 h w], where its 3×3 window lies inside."""
    across = torch.tensor([[1.0, 0.0, -1.0]] * 3) / 3
    kernels = torch.stack((across, across.T))[:, None]
    return F.conv2d(plane, kernels).square().sum(1, keepdim=True).sqrt()


def _features(vae: Any, image_01: Tensor) -> list[Tensor]:
    x = vae.encoder.conv_in(image_01 * 2 - 1)
    levels = []
    for block in vae.encoder.down_blocks:
        x = block(x)
        levels.append(x)
    return levels
