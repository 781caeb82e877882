"""Gaussian and Poisson noise, in colour or in grey.

The random numbers are made on the CPU by the generator that is passed in and then moved to the picture, so a
seed means the same noise on every device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)


def add_gaussian_noise(
    image_01: Tensor, *, sigma_01: float, grey: bool, generator: torch.Generator
) -> Tensor:
    """Add noise of standard deviation `sigma_01` and clip to [0, 1].

    Shapes: [1 c h w] float32 in and out; with `grey` all channels get the same noise.
    """
    b, c, h, w = image_01.shape
    noise = torch.randn((b, 1 if grey else c, h, w), generator=generator)
    return (image_01 + noise.to(image_01) * sigma_01).clamp_(0, 1)


def add_poisson_noise(image_01: Tensor, *, scale: float, grey: bool, generator: torch.Generator) -> Tensor:
    """Add photon noise times `scale` and clip to [0, 1].

    The picture x is rounded to 8 bits; full white is n = 2^ceil(log2(number of distinct levels)) photons, and
    the noise is ``scale · (Poisson(n·x)/n − x)``, of variance ``scale²·x/n`` (Real-ESRGAN, section 3.2).

    Shapes: [1 c h w] float32 in and out; with `grey` the noise is that of the luma, shared by all channels.
    """
    clean = luma(image_01) if grey else image_01
    levels = (clean * 255).round().clamp_(0, 255).cpu()
    n = photons_at_white(levels)
    clean_8bit = levels / 255
    noise = torch.poisson(clean_8bit * n, generator=generator) / n - clean_8bit
    return (image_01 + noise.to(image_01) * scale).clamp_(0, 1)


def photons_at_white(levels: Tensor) -> int:
    """Return 2^ceil(log2(number of distinct values)) of whole numbers from 0 to 255."""
    distinct = int((torch.bincount(levels.flatten().to(torch.int64), minlength=256) > 0).sum())
    return 2 ** math.ceil(math.log2(distinct))


def luma(image_01: Tensor) -> Tensor:
    """Return the ITU-R BT.601 luma [b 1 h w] of a picture of 3 channels, or a picture of 1 channel itself."""
    if image_01.shape[1] == 1:
        return image_01
    red, green, blue = image_01.unbind(1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue)[:, None]
