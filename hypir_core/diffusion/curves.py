"""The β curves: how fast the picture fades from the first timestep to the last, as pure functions.

Every curve returns β of every timestep: [steps], float64, on the CPU. Convention: u is the place of a timestep, from
0 to 1; curves say whether it ends at (steps − 1)/steps or at 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

BETA_START, BETA_END = 1e-4, 0.02
"""Ho et al., "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, section 4."""

COSINE_OFFSET = 0.008
"""s of Nichol and Dhariwal, arXiv 2102.09672, eq. 17; it keeps the first β from being too small to see."""

COSINE_BETA_MAX = 0.999
"""Their upper limit of β (section 3.2): without it the last ā would be 0."""

BETA_LEAST, BETA_MOST = 1e-4, 0.9999
"""Limits of curves that multiply another curve."""


def linear(steps: int, *, start: float = BETA_START, end: float = BETA_END) -> Tensor:
    """Return β from `start` to `end` in equal steps (Ho et al. 2020)."""
    return torch.linspace(start, end, steps, dtype=torch.float64)


def scaled_linear(steps: int, *, start: float, end: float) -> Tensor:
    """Return β whose root runs in equal steps (Rombach et al., arXiv 2112.10752, in its released code)."""
    return linear(steps, start=start**0.5, end=end**0.5).square()


def cosine(
    steps: int,
    *,
    s: float = COSINE_OFFSET,
    max_beta: float = COSINE_BETA_MAX,
    power: float = 2.0,
    shift: float = 0.0,
) -> Tensor:
    """Return β_t = min(1 − f(t + 1)/f(t), max_beta) with f(t) = cos^power((t/T + shift + s)/(1 + s)·π/2).

    Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", arXiv 2102.09672, eq. 17, where the power
    is 2 and nothing is shifted. Where a shift would turn the cosine negative it is taken as 0, and β is `max_beta`.
    """

    def faded(u: Tensor) -> Tensor:
        return torch.cos((u + shift + s).div(1 + s).clamp(0, 1) * math.pi / 2).pow(power)

    return of_a_bar(faded, steps, max_beta=max_beta)


def shifted_cosine(
    steps: int,
    *,
    image_size: int,
    base_size: int = 64,
    s: float = COSINE_OFFSET,
    max_beta: float = COSINE_BETA_MAX,
) -> Tensor:
    """Return the cosine's β with its signal-to-noise ratio times (base_size/image_size)².

    Hoogeboom, Heek and Salimans, "simple diffusion", arXiv 2301.11093, section 3.1: neighbouring pixels of a larger
    picture tell more about each other, so the same fading takes more noise.
    """

    def faded(u: Tensor) -> Tensor:
        a_bar = torch.cos((u + s) / (1 + s) * math.pi / 2).square() / math.cos(s / (1 + s) * math.pi / 2) ** 2
        scaled = a_bar * (base_size / image_size) ** 2
        return scaled / (scaled + 1 - a_bar)

    return of_a_bar(faded, steps, max_beta=max_beta)


def of_a_bar(faded: Callable[[Tensor], Tensor], steps: int, *, max_beta: float) -> Tensor:
    """Return β_t = min(1 − f((t + 1)/T)/f(t/T), max_beta); `faded` is ā up to a factor, from u [steps + 1]."""
    curve = faded(torch.arange(steps + 1, dtype=torch.float64) / steps)
    return (1 - curve[1:] / curve[:-1].clamp(min=1e-300)).clamp(max=max_beta)


def exponential(steps: int, *, start: float = BETA_START, end: float = BETA_END) -> Tensor:
    """Return β = start·(end/start)^u, u to 1."""
    return start * (end / start) ** _places(steps)


def polynomial(steps: int, *, start: float = BETA_START, end: float = BETA_END, power: float = 2.0) -> Tensor:
    """Return β = start + (end − start)·u^power, u to 1."""
    return start + (end - start) * _places(steps) ** power


def sigmoid(
    steps: int, *, start: float = BETA_START, end: float = BETA_END, steepness: float = 10.0
) -> Tensor:
    """Return β = start + (end − start)·sigmoid(steepness·(u − ½)), u to 1."""
    return start + (end - start) * torch.sigmoid(steepness * (_places(steps) - 0.5))


def warmup(betas: Tensor, *, warmup_steps: int, start: float = BETA_START) -> Tensor:
    """Return `betas` whose first `warmup_steps` are start·(t + 1)/warmup_steps: never 0, so that every ā falls."""
    rising = start * torch.arange(1, warmup_steps + 1, dtype=torch.float64) / warmup_steps
    return torch.cat([rising, betas[warmup_steps:]])[: len(betas)]


def interpolated(steps: int, points: Mapping[float, float]) -> Tensor:
    """Return β along straight lines between `points`, place u → β; u ends at (steps − 1)/steps."""
    import numpy as np

    places = sorted(points)
    u = np.arange(steps) / steps
    return torch.from_numpy(np.interp(u, places, [points[place] for place in places]))


def microscopy(
    steps: int, *, fine_details: bool = True, edges: float = 0.1, low_intensity: float = 0.05
) -> Tensor:
    """Return the cosine's β with less noise early and late and more in the middle.

    Early (first quarter): times ½ rising to 1. Middle third: times 1 + `edges`. Last fifth: times 1 − `low_intensity`.
    """
    betas = cosine(steps)
    if fine_details:
        betas[: steps // 4] *= torch.linspace(0.5, 1.0, steps // 4, dtype=torch.float64)
    betas[steps // 3 : 2 * steps // 3] *= 1 + edges
    betas[steps - steps // 5 :] *= 1 - low_intensity
    return betas.clamp(BETA_LEAST, COSINE_BETA_MAX)


def log_sigmas(count: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Tensor:
    """Return `count` noise levels σ = √((1 − ā)/ā), rising by equal factors."""
    return sigma_min * (sigma_max / sigma_min) ** _places(count)


def of_sigmas(sigmas: Tensor) -> Tensor:
    """Return β of rising noise levels: ā = 1/(1 + σ²), β_t = 1 − ā_t/ā_{t−1}."""
    a_bar = 1 / (1 + sigmas.square())
    return 1 - a_bar / torch.cat([torch.ones(1, dtype=a_bar.dtype), a_bar[:-1]])


def _places(steps: int) -> Tensor:
    return torch.linspace(0, 1, steps, dtype=torch.float64)
