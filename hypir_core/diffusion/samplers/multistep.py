"""What linear multistep rules share: a straight step along a mean of the last noise estimates."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...errors import ConfigError
from ...weights.spec import Prediction
from ..prediction import predict_eps, wide
from .base import Step, require_shape


def straight(
    x: Tensor, x0: Tensor, step: Step, *, name: str, weights: Sequence[float], earlier: Sequence[Tensor]
) -> Tensor:
    """Return x' = √ā'·(x_t − √(1 − ā)·ε̄)/√ā + √(1 − ā')·ε̄ with ε̄ = Σ w_k·ε_k: DDIM's step (η = 0) along ε̄.

    Computed as √ā'·(x0 + σ·(ε − ε̄)) + √(1 − ā')·ε̄ with σ = √((1 − ā)/ā), which loses no digits where ā is near 0.

    Args:
        x: x_t, [n c …].
        x0: the clean estimate, the same shape.
        step: gives ā and ā'.
        name: the rule's, for errors.
        weights: w, newest first, of sum 1: that of this step and of as many of `earlier`.
        earlier: ε of the steps before, newest first.
    """
    require_shape(x, x0=x0)
    if len(earlier) < len(weights) - 1:
        raise ConfigError(
            f"step {step.index + 1} of {step.of} of {name} needs the noise estimates of {len(weights) - 1} "
            f"earlier steps, got {len(earlier)}"
        )
    x, x0 = wide(x), wide(x0)
    eps = predict_eps(x, x0, a_bar=step.a_bar, kind=Prediction.x0)
    mean = weights[0] * eps
    for weight, before in zip(weights[1:], earlier, strict=False):
        require_shape(x, earlier=before)
        mean = mean + weight * wide(before)
    sigma = ((1 - step.a_bar) / step.a_bar) ** 0.5
    return step.a_bar_next**0.5 * (x0 + sigma * (eps - mean)) + (1 - step.a_bar_next) ** 0.5 * mean
