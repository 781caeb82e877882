"""The wavelet colour fix: coarse tones from the reference, detail from the content.

The split is an undecimated ("à trous") wavelet transform with the linear B-spline's kernel [1 2 1]/4: Shensa,
"The Discrete Wavelet Transform: Wedding the à Trous and Mallat Algorithms", IEEE TSP 40(10), 1992. As a
colour fix for diffusion super-resolution: Wang et al., "Exploiting Diffusion Prior for Real-World Image
Super-Resolution" (StableSR), IJCV 2024.
"""

from __future__ import annotations

from torch import Tensor

from ..errors import ShapeError

LEVELS = 5
"""Blur levels of the fix: an equivalent low-pass of 63 taps and standard deviation 13.06 px."""


def wavelet_color_fix(content_01: Tensor, reference_01: Tensor, *, levels: int = LEVELS) -> Tensor:
    """Give `content_01` the low frequencies (tone and colour) of `reference_01`.

    ``content - low(content) + low(reference)``, computed as ``content + low(reference - content)`` because
    the low-pass is linear: one pass instead of two, and a content equal to its reference stays bit for bit.

    Shapes: both [b c h w], same size, any number of channels; returns [b c h w], float32, not clamped.
    Device: that of the inputs, which must agree. Differentiable.

    Raises:
        ShapeError: the two sizes differ.
    """
    require_same_shape(content_01, reference_01)
    content = content_01.float()
    return content + low_frequencies(reference_01.float() - content, levels)


def low_frequencies(image_bchw: Tensor, levels: int = LEVELS) -> Tensor:
    """Return what is left of a picture after `levels` à-trous blurs.

    Level k blurs with the binomial kernel [1 2 1]/4 along rows and along columns, its taps 2**k px apart.

    Shapes: [b c h w] → [b c h w], the same floating dtype and device. Any height and width, 1 included.
    Convention: replicate padding, renewed before each level, at all four borders.
    Holds three planes of the input's size at most.
    """
    for level in range(levels):
        image_bchw = _blur_along(image_bchw, -1, 2**level)
        image_bchw = _blur_along(image_bchw, -2, 2**level)
    return image_bchw


def reach_px(levels: int = LEVELS) -> int:
    """Return how far a pixel's low frequencies look in each direction, in px: 31 for five levels."""
    return 2**levels - 1


def require_same_shape(content_01: Tensor, reference_01: Tensor) -> None:
    """Raise ShapeError unless both are [b c h w] of the same size."""
    if content_01.ndim != 4 or content_01.shape != reference_01.shape:
        raise ShapeError(
            "the colour fix expects a picture and a reference [b c h w] of the same size, got "
            f"{list(content_01.shape)} and {list(reference_01.shape)}; resize the reference first"
        )


def _blur_along(image_bchw: Tensor, dim: int, step_px: int) -> Tensor:
    """Blur with [1 2 1]/4, taps `step_px` apart, replicating the first and last line beyond the border."""
    size = image_bchw.shape[dim]
    step = min(step_px, size)
    inner = size - step
    out = image_bchw * 0.5
    out.narrow(dim, step, inner).add_(image_bchw.narrow(dim, 0, inner), alpha=0.25)
    out.narrow(dim, 0, step).add_(image_bchw.narrow(dim, 0, 1), alpha=0.25)
    out.narrow(dim, 0, inner).add_(image_bchw.narrow(dim, step, inner), alpha=0.25)
    out.narrow(dim, inner, step).add_(image_bchw.narrow(dim, size - 1, 1), alpha=0.25)
    return out
