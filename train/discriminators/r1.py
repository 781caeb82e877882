"""R1: keep the discriminator flat around real images (Mescheder et al., arXiv 1801.04406, eq. 9)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import R1Over
from .judgement import Logits


def r1_penalty(real_pm1: Tensor, logits: Logits, *, over: R1Over = R1Over.mean) -> Tensor:
    """Return ½·E ‖∇ₓ D(x)‖² over the batch, where D(x) is the sum over the levels of their mean logits.

    `logits` must have been computed from `real_pm1` while it required gradients. A map of logits counts with
    its mean: γ for a map of n independent logits must be about n times that for a single one. With `over` sum it
    counts with its sum, and γ depends on the size of the image.
    """
    maps = [level.flatten(1) for level in logits]
    score = torch.stack([(m.mean(1) if over is R1Over.mean else m.sum(1)).sum() for m in maps]).sum()
    (gradient,) = torch.autograd.grad(score, real_pm1, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()
