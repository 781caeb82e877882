"""Blur kernels in closed form.

Convention: the centre pixel is the origin, x points right, y points down, and a positive angle turns x
towards y. Every function takes one value or a tensor of b values per parameter and returns b kernels,
float32, on the CPU, each summing to 1.

Sources: anisotropic, generalized and plateau Gaussians as in Real-ESRGAN (Wang et al., 2021, section 3.1;
plateau from Liu et al., 2020); the circular sinc is its equation 6.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Values = Tensor | float


def gaussian_kernel(size_px: int, sigma_x: Values, sigma_y: Values, angle: Values = 0.0) -> Tensor:
    """Return exp(−q/2) with q = dᵀΣ⁻¹d, [b size size]; sigmas in pixels, angle in radians."""
    return _normalised(torch.exp(-0.5 * _mahalanobis(size_px, sigma_x, sigma_y, angle)))


def generalized_gaussian_kernel(
    size_px: int, sigma_x: Values, sigma_y: Values, angle: Values = 0.0, *, beta: Values
) -> Tensor:
    """Return exp(−q^β/2), [b size size]; β = 1 is the Gaussian, below peaked, above boxy."""
    q = _mahalanobis(size_px, sigma_x, sigma_y, angle)
    return _normalised(torch.exp(-0.5 * q.pow(_column(beta))))


def plateau_kernel(
    size_px: int, sigma_x: Values, sigma_y: Values, angle: Values = 0.0, *, beta: Values
) -> Tensor:
    """Return 1/(1 + q^β), [b size size]: a flat middle with long tails."""
    q = _mahalanobis(size_px, sigma_x, sigma_y, angle)
    return _normalised(1 / (1 + q.pow(_column(beta))))


def sinc_kernel(size_px: int, cutoff: Values) -> Tensor:
    """Return ω·J₁(ωr)/(2πr), ω²/(4π) at the centre, [b size size]; ω, up to π, in radians per pixel."""
    y, x = _grid(size_px)
    omega = _column(cutoff)
    r = torch.hypot(x, y)[None]
    away = r.clamp_min(1e-9)
    values = omega * torch.special.bessel_j1(omega * away) / (2 * math.pi * away)
    return _normalised(torch.where(r == 0, omega**2 / (4 * math.pi), values))


def _mahalanobis(size_px: int, sigma_x: Values, sigma_y: Values, angle: Values) -> Tensor:
    y, x = _grid(size_px)
    turn = _column(angle)
    along = (x * turn.cos() + y * turn.sin()) / _column(sigma_x)
    across = (y * turn.cos() - x * turn.sin()) / _column(sigma_y)
    return along**2 + across**2


def _grid(size_px: int) -> tuple[Tensor, Tensor]:
    axis = torch.arange(size_px, dtype=torch.float64) - (size_px - 1) / 2
    return axis[:, None], axis[None, :]


def _column(values: Values) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64, device="cpu").reshape(-1, 1, 1)


def _normalised(kernels: Tensor) -> Tensor:
    return (kernels / kernels.sum((-2, -1), keepdim=True)).float()
