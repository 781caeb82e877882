"""One measurement made into two of the same light: to restore from one, and to ask the other how good that is.

Counts that are Poisson distributed, split one by one by the toss of a coin, are two independent Poisson counts (photon
thinning). So there is a score without a truth: what repeats the noise of one half explains the other one badly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError
from .data_terms import FLOOR, Measurement


def thinned(y_e: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return whole electrons that fall into the first half and into the second, float32, of any shape.

    Electrons are rounded, and below 0 there are none; where y is no number neither half is. Reading noise is not split
    by this law: with much of it and little light the halves are not quite independent.

    Args:
        y_e: what was measured, in electrons.
        share: 0 to 1, how much of the light falls into the first half.
        generator: on the CPU.

    Raises:
        ConfigError: a share that leaves one half dark.
    """
    if not 0 < share < 1:
        raise ConfigError(f"a share must lie between 0 and 1, got {share:g}")
    known = y_e.isfinite()
    counts = torch.where(known, y_e, torch.zeros_like(y_e)).float().cpu().round().clamp(min=0)
    first = torch.binomial(counts, torch.full_like(counts, share), generator=generator)
    unknown = ~known.cpu()
    return tuple(half.masked_fill(unknown, float("nan")).to(y_e.device) for half in (first, counts - first))  # pyright: ignore[reportReturnType]


def deviance(x: Tensor, measured: Measurement) -> Tensor:
    """Return the mean of 2·(n·log(n/m) − (n − m)) over the valid pixels of every image, [b]: less explains more.

    n = y + σ² and m = μ + σ². It is twice the Poisson distance of the data term pkl to a perfect fit, and near 1 where
    the noise explains all of many counts. Unlike χ², which divides by the estimate, it is least at the true light
    however few the counts are. NaN where no pixel is valid.
    """
    m = measured.expected(x).clamp(min=0) + measured.read_variance + FLOOR
    valid = measured.valid.expand_as(m)
    n = torch.where(valid, measured.y.to(m) + measured.read_variance, m).clamp(min=0)
    parts = 2 * (torch.xlogy(n, n / m) - (n - m))
    counted = valid.to(m)
    return (parts * counted).flatten(1).sum(1) / counted.flatten(1).sum(1)
