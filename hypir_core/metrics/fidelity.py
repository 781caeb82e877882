"""How close a picture is to the true one: PSNR, SSIM and MS-SSIM as super-resolution papers report them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from ..errors import ShapeError

SSIM_WINDOW_PX = 11
"""Gaussian window, sigma 1.5 px (Wang et al. 2004); also the smallest side SSIM is defined for."""

SSIM_SIGMA_PX = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang, Simoncelli, Bovik 2003, section 3.2)."""

MS_SSIM_MIN_SIDE_PX = SSIM_WINDOW_PX * 2 ** (len(MS_SSIM_WEIGHTS) - 1)
"""Smallest side for which the coarsest scale still holds one window: 176 px."""

STRIP_PIXELS = 1 << 22
"""Pixels per strip in which SSIM is computed; bounds its memory to about 0.5 GB however large the picture."""


def psnr(image_01: Tensor, truth_01: Tensor, *, crop_px: int = 0) -> Tensor:
    """Return the peak signal-to-noise ratio in dB over all channels: ``-10 log10(mean squared error)``.

    Shapes: both [b c *spatial], any bands and axes, range [0,1]; returns [b] float32, infinite for equal pictures.
    `crop_px` rows and columns are left out at every border.

    Raises:
        ShapeError: the pictures differ in size, or nothing is left after the crop.
    """
    image_01, truth_01 = _cropped(image_01, truth_01, crop_px)
    return -10 * (image_01 - truth_01).square().mean(dim=tuple(range(1, truth_01.ndim))).log10()


def psnr_y(image_01: Tensor, truth_01: Tensor, *, crop_px: int = 0) -> Tensor:
    """Return the PSNR of the luma in dB; shapes, range and errors as `psnr`, 1 or 3 channels."""
    return psnr(luma(image_01), luma(truth_01), crop_px=crop_px)


def ssim(image_01: Tensor, truth_01: Tensor, *, crop_px: int = 0) -> Tensor:
    """Return the structural similarity of the luma, 1 for equal pictures.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE TIP 13(4),
    2004, eq. 13: Gaussian window of 11 px, sigma 1.5, K1 0.01, K2 0.03, averaged over the windows that lie
    inside the picture.

    Shapes: both [b c h w], 1 or 3 channels, range [0,1], sides of at least 11 px after the crop; returns [b].

    Raises:
        ShapeError: the pictures differ in size, are too small, or have other channel counts.
    """
    image_y, truth_y = _cropped(luma(image_01), luma(truth_01), crop_px)
    _require_side(image_y, SSIM_WINDOW_PX, "SSIM")
    return _mean_over_strips(_ssim_of_strip, image_y, truth_y)


def ms_ssim(image_01: Tensor, truth_01: Tensor, *, crop_px: int = 0) -> Tensor:
    """Return the multi-scale structural similarity of the luma, 1 for equal pictures.

    Wang, Simoncelli, Bovik, "Multi-scale Structural Similarity for Image Quality Assessment", Asilomar 2003,
    eq. 7: contrast and structure at five scales, halved by 2×2 means, and luminance at the coarsest. Negative
    terms count as 0, since they have no real power.

    Shapes: both [b c h w], 1 or 3 channels, range [0,1], sides of at least 176 px after the crop; gives [b].

    Raises:
        ShapeError: the pictures differ in size, are too small, or have other channel counts.
    """
    image_y, truth_y = _cropped(luma(image_01), luma(truth_01), crop_px)
    _require_side(image_y, MS_SSIM_MIN_SIDE_PX, "MS-SSIM")
    *fine, coarsest = MS_SSIM_WEIGHTS
    product = torch.ones(image_y.shape[0], device=image_y.device)
    for weight in fine:
        product *= _mean_over_strips(_contrast_of_strip, image_y, truth_y).relu() ** weight
        image_y, truth_y = avg_pool2d(image_y, 2), avg_pool2d(truth_y, 2)
    return product * _mean_over_strips(_ssim_of_strip, image_y, truth_y).relu() ** coarsest


def luma(image_01: Tensor) -> Tensor:
    """Return the luma of ITU-R BT.601 in studio range, on which super-resolution papers measure.

    ``Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255``; a grey picture is taken as R = G = B.

    Shapes: [b 3 h w] or [b 1 h w], range [0,1] → [b 1 h w], float32, range [16/255, 235/255].

    Raises:
        ShapeError: another number of channels.
    """
    if image_01.ndim != 4 or image_01.shape[1] not in {1, 3}:
        raise ShapeError(f"luma needs pictures [b 1 h w] or [b 3 h w], got {list(image_01.shape)}")
    r, g, b = image_01.float().expand(-1, 3, -1, -1).split(1, dim=1)
    return (16 + 65.481 * r + 128.553 * g + 24.966 * b) / 255


def _mean_over_strips(mean_of_strip: Callable[..., Tensor], image_y: Tensor, truth_y: Tensor) -> Tensor:
    """Average over all windows inside the picture, in strips that share a window's height less one row."""
    batch, _, height, width = image_y.shape
    shared = SSIM_WINDOW_PX - 1
    windows = height - shared
    rows = max(1, STRIP_PIXELS // (batch * width))
    total = torch.zeros(batch, device=image_y.device)
    for y in range(0, windows, rows):
        here = min(rows, windows - y)
        strip = slice(y, y + here + shared)
        total += mean_of_strip(image_y[..., strip, :], truth_y[..., strip, :]) * (here / windows)
    return total


def _ssim_of_strip(image_y: Tensor, truth_y: Tensor) -> Tensor:
    luminance, contrast = _ssim_terms(image_y, truth_y)
    return (luminance * contrast).mean(dim=(1, 2, 3))


def _contrast_of_strip(image_y: Tensor, truth_y: Tensor) -> Tensor:
    return _ssim_terms(image_y, truth_y)[1].mean(dim=(1, 2, 3))


def _ssim_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return luminance and contrast-structure (Wang et al. 2004, eq. 6 and eq. 9·10) of every window inside."""
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    mean_x, mean_y, xx, yy, xy = _window_means(torch.cat((x, y, x * x, y * y, x * y))).chunk(5)
    var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (var_x + var_y + c2)


def _window_means(planes: Tensor) -> Tensor:
    """Average [n 1 h w] under the Gaussian window, where it lies inside: [n 1 h−10 w−10], float64."""
    offsets = torch.arange(SSIM_WINDOW_PX, dtype=torch.float64, device=planes.device) - SSIM_WINDOW_PX // 2
    line = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA_PX**2))
    line = line / line.sum()
    return conv2d(conv2d(planes.double(), line.reshape(1, 1, -1, 1)), line.reshape(1, 1, 1, -1))


def _cropped(image_01: Tensor, truth_01: Tensor, crop_px: int) -> tuple[Tensor, Tensor]:
    if image_01.ndim < 3 or image_01.shape != truth_01.shape:
        raise ShapeError(
            "two pictures [b c h w] of the same size are expected, got "
            f"{list(image_01.shape)} and {list(truth_01.shape)}"
        )
    sides = image_01.shape[2:]
    if crop_px < 0 or 2 * crop_px >= min(sides):
        size = "×".join(str(side) for side in reversed(sides))
        raise ShapeError(f"a border of {crop_px} px cannot be cropped from a picture of {size} px")
    inside = (..., *(slice(crop_px, side - crop_px) for side in sides))
    return image_01[inside].float(), truth_01[inside].float()


def _require_side(image: Tensor, side_px: int, what: str) -> None:
    height, width = image.shape[-2:]
    if min(height, width) < side_px:
        raise ShapeError(f"{what} needs sides of at least {side_px} px, got {width}×{height} px")
