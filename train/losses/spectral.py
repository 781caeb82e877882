"""Losses on the bands of a pixel and on the values of a band. Images float32 [b c *spatial]; each returns a scalar."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..config import Domain
from .domain import works_in

LEAST_NORM = 2.0**-23
"""Spectra shorter than this count as that long; one step of float32 below 1."""


@works_in(Domain.file)
def sam(image: Tensor, target: Tensor) -> Tensor:
    """Return the mean angle in radians between the bands of a pixel and its target's (Kruse et al. 1993).

    The arc cosine is kept one float32 step away from 0 and π, where its gradient has no bound: equal spectra count
    4.9e-4 and pull nowhere. A spectrum of zeros is at a right angle to all. Blind to brightness, not to an offset:
    the values must count from no light, which is why it works in file values.
    """
    norms = [torch.linalg.vector_norm(x, dim=1).clamp(min=LEAST_NORM) for x in (image, target)]
    cosine = (image * target).sum(1) / (norms[0] * norms[1]).clamp(min=LEAST_NORM)
    return torch.acos(cosine.clamp(-1 + LEAST_NORM, 1 - LEAST_NORM)).mean()


def spectral_angle(image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
    """Return the mean angle in radians between the bands of a pixel and its target's (Kruse et al. 1993).

    Bands count from black (−1 on this scale). With unit vectors u, v the angle is 2·atan2(|u − v|, |u + v|) (Kahan),
    which keeps its accuracy and gradient at small angles, where the arc cosine has neither.
    """
    u, v = (F.normalize(each / 2 + 0.5, dim=1, eps=1e-6) for each in (image_pm1, target_pm1))
    return (
        2 * torch.atan2(torch.linalg.vector_norm(u - v, dim=1), torch.linalg.vector_norm(u + v, dim=1)).mean()
    )


def histogram(image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
    """Return how far the values of each band must be moved to have the target's distribution, on average.

    The 1-D Wasserstein distance, exactly: mean |sort(x̂) − sort(x)| per sample and band (Peyré and Cuturi,
    arXiv 1803.00567, eq. 2.37). Where the values lie does not matter.
    """
    mine, true = (x.flatten(2).sort(dim=2).values for x in (image_pm1, target_pm1))
    return (mine - true).abs().mean()
