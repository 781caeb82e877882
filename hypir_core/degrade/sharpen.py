"""Unsharp mask that leaves flat areas alone."""

from __future__ import annotations

from torch import Tensor

from .filtering import filter_image
from .kernels import gaussian_kernel
from .parts import Sharpen


def unsharp_mask(image_01: Tensor, settings: Sharpen) -> Tensor:
    """Add detail where it exceeds the threshold, with a soft mask so that no edge of the mask shows.

    ``sharp = clip(x + weight·(x − G∗x))``; the mask is ``G ∗ (|x − G∗x|·255 > threshold)``, and the result
    ``mask·sharp + (1 − mask)·x`` (Real-ESRGAN, section 3.5).

    Shapes: [b c h w] float32 in [0, 1], in and out.
    """
    kernel = gaussian_kernel(settings.size, settings.sigma, settings.sigma)[0]
    detail = image_01 - filter_image(image_01, kernel)
    mask = filter_image((detail.abs() * 255 > settings.threshold).to(image_01.dtype), kernel)
    sharp = (image_01 + settings.weight * detail).clamp_(0, 1)
    return image_01.lerp(sharp, mask.clamp_(0, 1))
