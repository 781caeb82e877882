"""What a network predicts, turned into the clean picture, the noise or the velocity.

A noised picture is x_t = √ā·x0 + √(1 − ā)·ε, ε ~ N(0, 1) (Ho et al., "Denoising Diffusion Probabilistic Models",
arXiv 2006.11239, eq. 4). The velocity is v = √ā·ε − √(1 − ā)·x0 (Salimans and Ho, "Progressive Distillation for
Fast Sampling of Diffusion Models", arXiv 2202.00512, appendix D). Given x_t and ā, each of x0, ε and v gives the
others, and the difference x_t − x0. All functions here take and give the variance-preserving x_t of eq. 4.

Shapes: all tensors of a call are of one shape, [n c …]. `a_bar` is a number, or a tensor that broadcasts against
them ([n 1 1 1] where every image has a timestep of its own).
Types: half formats are computed and returned in float32, float32 and float64 as they are.
Device: that of the tensors. Differentiable. Nothing is clipped.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..weights.spec import Prediction


def predict_x0(
    z: Tensor, prediction: Tensor, *, a_bar: float | Tensor, kind: Prediction = Prediction.eps
) -> Tensor:
    """Return x0 of a prediction.

    With ε given: x0 = (x_t − √(1 − ā)·ε) / √ā (Ho et al., eq. 4 solved for x0).
    With v given: x0 = √ā·x_t − √(1 − ā)·v (Salimans and Ho, appendix D).
    With a difference given: x0 = x_t − difference, whatever ā is (Sun et al., PiSA-SR, arXiv 2412.03017, eq. 5).

    One-step restorers take the latent of the degraded picture for x_t: nothing is added to it, and one prediction
    gives the clean latent without a sampler (Lin et al., "Harnessing Diffusion-Yielded Score Priors for Image
    Restoration" (HYPIR), arXiv 2507.20590, section 4). Training and inference both call this.

    Args:
        z: x_t.
        prediction: the same shape.
        a_bar: ā in (0, 1]; for Stable Diffusion at t = 200, x0 = 1.151869·x_t − 0.571666·ε.
        kind: what was predicted.
    """
    kind, signal, noise = Prediction(kind), a_bar**0.5, (1 - a_bar) ** 0.5
    z, prediction = wide(z), wide(prediction)
    if kind is Prediction.x0:
        return prediction
    if kind is Prediction.difference:
        return z - prediction
    if kind is Prediction.v:
        return signal * z - noise * prediction
    return (z - noise * prediction) / signal


def predict_eps(x: Tensor, prediction: Tensor, *, a_bar: float | Tensor, kind: Prediction) -> Tensor:
    """Return ε of a prediction.

    With x0 given: ε = (x_t − √ā·x0) / √(1 − ā) (Ho et al., eq. 4 solved for ε).
    With v given: ε = √ā·v + √(1 − ā)·x_t (Salimans and Ho, appendix D).

    Args:
        x: x_t.
        prediction: the same shape.
        a_bar: ā in (0, 1).
        kind: what was predicted.
    """
    kind, signal, noise = Prediction(kind), a_bar**0.5, (1 - a_bar) ** 0.5
    x, prediction = wide(x), wide(prediction)
    if kind is Prediction.eps:
        return prediction
    if kind is Prediction.v:
        return signal * prediction + noise * x
    return (x - signal * _clean(x, prediction, kind)) / noise


def predict_v(x: Tensor, prediction: Tensor, *, a_bar: float | Tensor, kind: Prediction) -> Tensor:
    """Return v of a prediction: v = √ā·ε − √(1 − ā)·x0 with the missing one put in from eq. 4.

    With ε given: v = (ε − √(1 − ā)·x_t) / √ā. With x0 given: v = (√ā·x_t − x0) / √(1 − ā).

    Args:
        x: x_t.
        prediction: the same shape.
        a_bar: ā in (0, 1).
        kind: what was predicted.
    """
    kind, signal, noise = Prediction(kind), a_bar**0.5, (1 - a_bar) ** 0.5
    x, prediction = wide(x), wide(prediction)
    if kind is Prediction.v:
        return prediction
    if kind is Prediction.eps:
        return (prediction - noise * x) / signal
    return (signal * x - _clean(x, prediction, kind)) / noise


def predict_difference(x: Tensor, prediction: Tensor, *, a_bar: float | Tensor, kind: Prediction) -> Tensor:
    """Return x_t − x0 of a prediction; arguments as `predict_eps`."""
    kind = Prediction(kind)
    if kind is Prediction.difference:
        return wide(prediction)
    return wide(x) - predict_x0(x, prediction, a_bar=a_bar, kind=kind)


def add_noise(x0: Tensor, eps: Tensor, *, a_bar: float | Tensor) -> Tensor:
    """Return x_t = √ā·x0 + √(1 − ā)·ε (Ho et al., eq. 4); ā in [0, 1]."""
    return a_bar**0.5 * wide(x0) + (1 - a_bar) ** 0.5 * wide(eps)


def _clean(x: Tensor, prediction: Tensor, kind: Prediction) -> Tensor:
    """Return x0 of a prediction that says it without ā."""
    return x - prediction if kind is Prediction.difference else prediction


def wide(tensor: Tensor) -> Tensor:
    """Return float32 and float64 as they are, every other format as float32."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
