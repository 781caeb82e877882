"""Measures on the gradients of two pictures: does one have the other's edges, and as much detail?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ShapeError
from .fidelity import luma
from .seams import seam_measure

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


def grid_measure(image_01: Tensor, *, period_px: int = 4) -> float:
    """Return how much of a picture's steps repeats every `period_px`: the grid that a pixel shuffle leaves.

    The seam measure of every period-th line, for each of the possible first lines; the largest. About 1 is no grid.

    Shapes: [b c h w], [0,1], sides of at least three periods.
    """
    h, w = image_01.shape[-2:]
    return max(
        seam_measure(image_01, range(first, h, period_px), range(first, w, period_px))
        for first in range(1, period_px + 1)
    )


def _halved_luma(image_01: Tensor) -> Tensor:
    return F.avg_pool2d(luma(image_01), 2)


def _gradients(plane: Tensor) -> Tensor:
    """Return the magnitude of the Prewitt gradient of [b 1 h w], where its 3×3 window lies inside."""
    across = torch.tensor([[1.0, 0.0, -1.0]] * 3) / 3
    kernels = torch.stack((across, across.T))[:, None]
    return F.conv2d(plane, kernels).square().sum(1, keepdim=True).sqrt()
