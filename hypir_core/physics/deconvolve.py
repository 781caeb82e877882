"""Richardson and Lucy's deconvolution: the classic without a network, a baseline and a tool."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError
from .choices import Term
from .data_terms import FLOOR, Measurement, gradient


def richardson_lucy(measured: Measurement, *, steps: int, start: Tensor | None = None) -> Tensor:
    """Return the estimate after `steps` rounds of x ← x·(Aᵀ1 − g)/Aᵀ1, g the gradient of the Poisson distance.

    Richardson, J. Opt. Soc. Am. 62, 55, 1972; Lucy, Astron. J. 79, 745, 1974. In these terms x·Aᵀ(y/(A x + B))/Aᵀ1,
    with the background and reading noise of `measured`. More rounds: sharper and noisier; stop early.

    Args:
        measured: y [b c *spatial] and how it came about.
        steps: rounds, 1 or more.
        start: where to start, like y, not negative; None: the mean of each image above its background, everywhere.

    Returns:
        [b c *spatial] in electrons, 0 or more, finite also where y is not.
    """
    if steps < 1:
        raise ConfigError(f"Richardson-Lucy needs 1 step or more, got {steps}")
    y = measured.y if measured.y.dtype in (torch.float32, torch.float64) else measured.y.float()
    x = flat_start(measured).to(y) if start is None else start.clone()
    seen = measured.sensitivity(x)
    for _ in range(steps):
        g = gradient(Term.pkl, x, measured)
        x = torch.where(seen > FLOOR, x * (1 - g / seen.clamp(min=FLOOR)), x).clamp(min=0)
    return x


def flat_start(measured: Measurement) -> Tensor:
    """Return max(mean of y − B, 0.1) of every image over its valid pixels, as light [b c *spatial] that measures so."""
    y, valid = measured.y, measured.valid
    kept = torch.where(valid, y, torch.zeros_like(y)).flatten(1).sum(1)
    mean = kept / valid.flatten(1).sum(1).clamp(min=1)
    level = (mean - measured.background_e).clamp(min=0.1)
    level = level / measured.operator.shrink ** (y.ndim - 2)
    return level.reshape(-1, *[1] * (y.ndim - 1)).expand(measured.estimate_shape).clone()
