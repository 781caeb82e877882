"""R1: keep the discriminator flat around real images (Mescheder et al., arXiv 1801.04406, eq. 9)."""

from __future__ import annotations

import torch
from torch import Tensor

from .judgement import Logits


def r1_penalty(real_pm1: Tensor, logits: Logits) -> Tensor:
    """Return ½·E ‖∇ₓ D(x)‖² over the batch, where D(x) is the sum over the levels of their mean logits.

    `logits` must have been computed from `real_pm1` while it required gradients. A map of logits counts with
    its mean: γ for a map of n independent logits must be about n times that for a single one.
    """
    score = torch.stack([level.flatten(1).mean(1).sum() for level in logits]).sum()
    (gradient,) = torch.autograd.grad(score, real_pm1, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()
