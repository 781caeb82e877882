"""The statistics colour fix: every channel gets the mean and the spread it has in the reference.

Huang, Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", ICCV 2017,
eq. 8, on pixels instead of features.
"""

from __future__ import annotations

from torch import Tensor

from .statistics import ChannelStatistics, channel_statistics
from .wavelet import require_same_shape

FLAT = 1e-8
"""Added to both variances, (0.03 of an 8-bit level)²: the noise of a flat channel is not blown up."""


def adain_color_fix(content_01: Tensor, reference_01: Tensor) -> Tensor:
    """Match mean and standard deviation of every channel over the whole picture.

    Shapes: both [b c h w], same size, any number of channels; returns [b c h w], float32, not clamped.

    Raises:
        ShapeError: the two sizes differ.
    """
    require_same_shape(content_01, reference_01)
    gain, offset = adain_gain_offset(channel_statistics(content_01), channel_statistics(reference_01))
    device = content_01.device
    return content_01.float() * gain.float().to(device) + offset.float().to(device)


def adain_gain_offset(content: ChannelStatistics, reference: ChannelStatistics) -> tuple[Tensor, Tensor]:
    """Return the gain and offset ([b c 1 1], float64) that give the content the reference's statistics."""
    gain = ((reference.variance + FLAT) / (content.variance + FLAT)).sqrt()
    return gain, reference.mean - gain * content.mean
