"""Losses that compare neighbourhoods and spectra. Images float32 [b c *spatial], [-1,1] scale."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hypir_core.errors import ConfigError, ShapeError
from hypir_core.metrics.fidelity import MS_SSIM_WEIGHTS

from .domain import works_in

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def ssim_loss(
    image_pm1: Tensor, target_pm1: Tensor, *, window: int = 11, sigma: float = 1.5, span: float = 2.0
) -> Tensor:
    """Return 1 − mean SSIM (Wang et al. 2004, eq. 13) with a Gaussian window, where it fits into the image.

    C1 = (0.01·L)², C2 = (0.03·L)² with the range L = `span`; biased (window-weighted) moments. The window has as many
    axes as the image.

    Raises:
        ShapeError: the image is smaller than the window.
    """
    window = int(window)
    _require_px("ssim", image_pm1, window)
    luminance, contrast = _ssim_terms(image_pm1, target_pm1, window, sigma, span)
    return 1 - (luminance * contrast).mean()


def ms_ssim_loss(
    image_pm1: Tensor,
    target_pm1: Tensor,
    *,
    scales: int = 5,
    window: int = 11,
    sigma: float = 1.5,
    span: float = 2.0,
) -> Tensor:
    """Return 1 − multi-scale SSIM (Wang, Simoncelli, Bovik, Asilomar 2003, eq. 7), the mean over the batch.

    Contrast and structure at every scale, halved by means of two cells along each axis, and luminance at the coarsest;
    each a mean over the channels and the windows inside the image, to the power of `MS_SSIM_WEIGHTS`. With fewer
    `scales` than five the finest ones are used and their weights brought to the sum 1. Terms below 1e-6 count as that:
    a negative one has no real power.

    Raises:
        ShapeError: the image is smaller than the window at the coarsest scale.
        ConfigError: other scales than 1 to 5.
    """
    scales, window = int(scales), int(window)
    if not 1 <= scales <= len(MS_SSIM_WEIGHTS):
        raise ConfigError(f"ms_ssim: its option scales must be 1 to {len(MS_SSIM_WEIGHTS)}, got {scales}")
    _require_px(
        "ms_ssim",
        image_pm1,
        window * 2 ** (scales - 1),
        advice="; lower its option scales, or raise data.crop_px",
    )
    weights = [weight / sum(MS_SSIM_WEIGHTS[:scales]) for weight in MS_SSIM_WEIGHTS[:scales]]
    x, y = image_pm1, target_pm1
    product = x.new_ones(x.shape[0])
    for number, weight in enumerate(weights, 1):
        luminance, contrast = _ssim_terms(x, y, window, sigma, span)
        term = luminance * contrast if number == scales else contrast
        product = product * term.mean(tuple(range(1, term.ndim))).clamp(min=1e-6) ** weight
        if number < scales:
            x, y = (POOL[each.ndim - 2](each, 2) for each in (x, y))
    return 1 - product.mean()


def fourier(image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
    """Return the mean |F(image) − F(target)| of the orthonormal spectrum along all axes, all frequencies alike."""
    axes = tuple(range(2, image_pm1.ndim))
    difference = torch.fft.rfftn(image_pm1 - target_pm1, dim=axes, norm="ortho")
    return torch.sqrt(difference.real.square() + difference.imag.square() + 1e-12).mean() - 1e-6


def gradient(image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
    """Return the mean absolute error of the finite differences along each axis, added up over the axes."""
    return _variation(image_pm1 - target_pm1).mean()


def total_variation(image_pm1: Tensor, target_pm1: Tensor, *, beyond_target: bool = True) -> Tensor:
    """Return how much rougher the image is than the target: max(0, TV(image) − TV(target)), per sample.

    TV = mean |∂y| + mean |∂x|, in volumes + mean |∂z| (Rudin, Osher, Fatemi 1992, anisotropic). The target's own
    variation is free, so that texture is not punished, and equal images cost nothing. Without `beyond_target` all
    of the image's variation counts.
    """
    if not beyond_target:
        return _variation(image_pm1).mean()
    return F.relu(_variation(image_pm1) - _variation(target_pm1)).mean()


@works_in(axes=(2,))
def checkerboard(image_pm1: Tensor, target_pm1: Tensor, *, period: int = 4, window: int = 4) -> Tensor:
    """Return how much of the error repeats every `period` px: the grid that a pixel shuffle leaves.

    The error is taken apart into its period² phases (Shi et al., arXiv 1609.05158, eq. 4, backwards). Over
    `window` × `window` periods, half overlapping, every phase should have the same mean error; the loss is the
    mean absolute deviation. A constant offset costs nothing, and detail that does not repeat little.

    Raises:
        ShapeError: the image is smaller than one window.
    """
    period, window = int(period), int(window)
    height, width = (side // period * period for side in image_pm1.shape[-2:])
    if min(height, width) < period * window:
        raise ShapeError(
            f"checkerboard: expected images of at least {period * window} px a side, got "
            f"{tuple(image_pm1.shape[-2:])}; lower its option window, or raise data.crop_px"
        )
    error = (image_pm1 - target_pm1)[..., :height, :width]
    phases = F.pixel_unshuffle(error, period).unflatten(1, (-1, period * period))
    uneven = (phases - phases.mean(2, keepdim=True)).flatten(1, 2)
    return F.avg_pool2d(uneven, window, stride=max(window // 2, 1)).abs().mean()


def _require_px(name: str, image: Tensor, least_px: int, *, advice: str = "") -> None:
    sizes = tuple(image.shape[2:])
    if min(sizes) < least_px:
        raise ShapeError(f"{name}: expected images of at least {least_px} px a side, got {sizes}{advice}")


def _ssim_terms(x: Tensor, y: Tensor, window: int, sigma: float, span: float) -> tuple[Tensor, Tensor]:
    """Return luminance and contrast-structure (Wang et al. 2004, eq. 6 and 9·10) of every window inside."""
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    moments = _window_means(torch.cat((x, y, x * x, y * y, x * y)), window, sigma)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = moments.chunk(5)
    var_x, var_y, cov = mean_xx - mean_x**2, mean_yy - mean_y**2, mean_xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * cov + c2) / (var_x + var_y + c2)


def _variation(image: Tensor) -> Tensor:
    """Return [b]: mean |∂| along each axis of [b c *spatial], added up; an axis of one cell has none."""
    within = tuple(range(1, image.ndim))
    steps = [
        image.diff(dim=axis).abs().mean(within) for axis in range(2, image.ndim) if image.shape[axis] > 1
    ]
    return torch.stack(steps).sum(0) if steps else 0 * image.sum(within)


def _window_means(image: Tensor, window: int, sigma: float) -> Tensor:
    """Average [b c *spatial] under a Gaussian window, where it lies inside: along one axis after the other."""
    axes, channels = image.ndim - 2, image.shape[1]
    offsets = torch.arange(window, dtype=image.dtype, device=image.device) - (window - 1) / 2
    taps = torch.exp(-offsets.square() / (2 * sigma**2))
    taps = taps / taps.sum()
    for axis in reversed(range(axes)):
        shape = [channels, 1, *(window if number == axis else 1 for number in range(axes))]
        line = taps.view(1, 1, *shape[2:]).expand(shape)
        image = CONVOLVE[axes](image, line, groups=channels)
    return image
