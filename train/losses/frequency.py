"""Losses that compare spectra: how much of every fineness there is. Images float32 [b c h w]; each returns a scalar.

All but `haar` look at the unnormalised two-dimensional Fourier transform F of every channel. r is the distance of a
frequency from 0, in waves per pixel unless it is said otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hypir_core.errors import ShapeError

from .domain import works_in

FLOOR = 1e-8
"""Added before the logarithm, and under the root of the Sobel magnitude, whose tip would have no gradient."""

BAND_EDGES = (0.0, 0.1, 0.3, 0.6, 1.0)
"""Of r, as shares of the largest."""

BAND_WEIGHTS = (1.0, 0.8, 0.6, 0.4)
"""Coarse structure counts more than fine."""

SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
LAPLACE = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


@works_in(axes=(2,))
def log_fourier(image_pm1: Tensor, target_pm1: Tensor, *, squared: bool = False) -> Tensor:
    """Return the mean of |Δ log(|F| + 1e-8)|, or of its square: every frequency counts by its share, however weak."""
    difference = _log_amplitude(image_pm1) - _log_amplitude(target_pm1)
    return difference.square().mean() if squared else difference.abs().mean()


@works_in(axes=(2,))
def spectral(image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
    """Return the mean over rings of |Δ mean of log(|F|² + 1e-8)|: the right amount of every fineness, wherever it is.

    Ring n holds the frequencies of n up to n + 1 waves per picture, from 0 up to half the shorter side.
    """
    mine, true = (_ring_means(x) for x in (image_pm1, target_pm1))
    return (mine - true).abs().mean()


@works_in(axes=(2,))
def multi_scale_frequency(image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
    """Return the mean over the scales 1, 2, 4 (mean pooling) of (`log_fourier` + ½·`spectral`)/scale."""
    _require_px("multi_scale_frequency", image_pm1, 8)
    total = image_pm1.new_zeros(())
    for scale in (1, 2, 4):
        mine, true = (F.avg_pool2d(x, scale) for x in (image_pm1, target_pm1))
        total = total + (log_fourier(mine, true) + 0.5 * spectral(mine, true)) / scale
    return total / 3


@works_in(axes=(2,))
def high_frequency(
    image_pm1: Tensor, target_pm1: Tensor, *, threshold: float = 0.5, emphasis: float = 2.0
) -> Tensor:
    """Return the error of |F|, times `emphasis` above `threshold` of the largest r, plus that of edges.

    Mean |Δ|F|| + mean |Δ of the Sobel magnitude| + ½ mean |Δ of the Laplacian|, with zeros beyond the edges.
    """
    far = _radius(image_pm1)
    weights = torch.where(far / far.max() > threshold, emphasis, 1.0)
    mine, true = (torch.fft.fft2(x).abs() * weights for x in (image_pm1, target_pm1))
    edges = (_sobel(image_pm1) - _sobel(target_pm1)).abs().mean()
    curved = _filtered(image_pm1 - target_pm1, LAPLACE).abs().mean()
    return (mine - true).abs().mean() + edges + 0.5 * curved


@works_in(axes=(2,))
def frequency_bands(image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
    """Return the weighted mean over four bands of r of the mean |Δ log(|F| + 1e-8)| in each."""
    far = _radius(image_pm1)
    share = far / far.max()
    difference = (_log_amplitude(image_pm1) - _log_amplitude(target_pm1)).abs().mean((0, 1))
    total, weights = image_pm1.new_zeros(()), 0.0
    for low, high, weight in zip(BAND_EDGES[:-1], BAND_EDGES[1:], BAND_WEIGHTS, strict=True):
        within = (share >= low) & ((share < high) | (high == 1.0))
        if bool(within.any()):
            total, weights = total + weight * difference[within].mean(), weights + weight
    return total / weights


@works_in(axes=(2,))
def haar(image_pm1: Tensor, target_pm1: Tensor, *, levels: int = 3) -> Tensor:
    """Return the mean |Δ| of each kind of Haar's wavelets at each level, and of what is left, added up (Mallat 1989).

    Orthonormal; differentiable, every channel for itself. A side that is odd at a level loses its last row there.
    """
    levels = int(levels)
    _require_px("haar", image_pm1, 2**levels)
    low, total = image_pm1 - target_pm1, image_pm1.new_zeros(())
    for _ in range(levels):
        low, details = haar_level(low)
        total = total + 3 * details.abs().mean()
    return total + low.abs().mean()


def haar_level(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is left at half the size [b c h/2 w/2], and the three kinds of detail [b c 3 h/2 w/2]."""
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    x = x[..., :height, :width]
    a, b = x[..., ::2, ::2], x[..., ::2, 1::2]
    c, d = x[..., 1::2, ::2], x[..., 1::2, 1::2]
    details = torch.stack([a - b + c - d, a + b - c - d, a - b - c + d], -3) / 2
    return (a + b + c + d) / 2, details


def _log_amplitude(x: Tensor) -> Tensor:
    return (torch.fft.fft2(x).abs() + FLOOR).log()


def _radius(x: Tensor) -> Tensor:
    """Return r at every place of the transform, [h w]."""
    rows, columns = (torch.fft.fftfreq(side, device=x.device, dtype=x.dtype) for side in x.shape[-2:])
    return (rows[:, None].square() + columns[None].square()).sqrt()


def _ring_means(x: Tensor) -> Tensor:
    """Return the mean of log(|F|² + 1e-8) over every ring, [b c rings]."""
    _require_px("spectral", x, 2)
    height, width = x.shape[-2:]
    rows, columns = (
        torch.fft.fftfreq(side, dtype=torch.float64).to(x.device) * side for side in (height, width)
    )
    rings = min(height, width) // 2
    ring = (rows[:, None].square() + columns[None].square()).sqrt().floor().long().flatten()
    inside = ring < rings
    power = (torch.fft.fft2(x).abs().square() + FLOOR).log().flatten(-2)[..., inside]
    sums = power.new_zeros((*power.shape[:-1], rings)).index_add(-1, ring[inside], power)
    return sums / torch.bincount(ring[inside], minlength=rings).to(sums)


def _sobel(x: Tensor) -> Tensor:
    along, across = _filtered(x, SOBEL), _filtered(x, tuple(zip(*SOBEL, strict=True)))
    return (along.square() + across.square() + FLOOR).sqrt()


def _filtered(x: Tensor, taps: tuple[tuple[float, ...], ...]) -> Tensor:
    kernel = torch.tensor(taps, dtype=x.dtype, device=x.device).view(1, 1, 3, 3)
    return F.conv2d(x.flatten(0, 1)[:, None], kernel, padding=1)[:, 0].unflatten(0, x.shape[:2])


def _require_px(name: str, x: Tensor, least_px: int) -> None:
    if min(x.shape[-2:]) < least_px:
        raise ShapeError(
            f"{name}: expected images of at least {least_px} px a side, got {list(x.shape[-2:])}; raise data.crop_px"
        )
