"""The histogram colour fix: every channel gets the distribution of values that it has in the reference.

As opensr-srgan does after a prediction. The rule is that of `histogram.match_histogram`, counted in bins, so that a
picture may come block by block.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .wavelet import require_same_shape

BINS = 65536
"""Of [0,1]: the values of 16 bits, those of 8 among them. Values beyond count as 0 and 1."""


def histogram_color_fix(content_01: Tensor, reference_01: Tensor) -> Tensor:
    """Match the histogram of every channel over the whole picture.

    Shapes: both [b c h w], same size, any number of channels; returns [b c h w], float32, in [0,1].

    Raises:
        ShapeError: the two sizes differ.
    """
    require_same_shape(content_01, reference_01)
    return remapped(content_01, remapping(counts_of(content_01), counts_of(reference_01)))


def counts_of(image_01: Tensor) -> Tensor:
    """Return how many values of each channel lie in each bin, [b c BINS] int64; those of parts add up."""
    places = _places(image_01)
    counts = torch.zeros(*places.shape[:2], BINS, dtype=torch.long, device=places.device)
    return counts.scatter_add_(2, places, torch.ones_like(places))


def remapping(content: Tensor, reference: Tensor) -> Tensor:
    """Return what every bin becomes, [b c BINS] float32 on the CPU: the reference's value of the same rank.

    Args:
        content: counts [b c BINS] of the picture.
        reference: those of what it is made like.
    """
    mine, theirs = (counts.reshape(-1, BINS).cpu().numpy() for counts in (content, reference))
    values = np.linspace(0, 1, BINS)
    table = np.empty(mine.shape, np.float32)
    for row, (own, wanted) in enumerate(zip(mine, theirs, strict=True)):
        there = wanted > 0
        ranks = wanted[there].cumsum() / wanted.sum()
        table[row] = np.interp(own.cumsum() / own.sum(), ranks, values[there])
    return torch.from_numpy(table).reshape(content.shape)


def remapped(image_01: Tensor, table: Tensor) -> Tensor:
    """Return an image [b c h w] with every value changed as `remapping` says."""
    return table.to(image_01.device).gather(2, _places(image_01)).reshape(image_01.shape)


def _places(image_01: Tensor) -> Tensor:
    """Return the bin of every value, [b c h·w]."""
    return (image_01.float().clamp(0, 1) * (BINS - 1)).round().long().flatten(2)
