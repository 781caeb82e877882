"""Histogram matching: give a picture the distribution of values that another one has, channel by channel."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ShapeError


def match_histogram(
    image: Tensor, reference: Tensor, *, valid: Tensor | None = None, reference_valid: Tensor | None = None
) -> Tensor:
    """Return `image` with the reference's histogram, each sample and channel for itself.

    Every value takes the reference's value of the same rank (Gonzalez and Woods, section 3.3); equal values stay equal.
    Ranks between two of the reference's are interpolated. This is scikit-image's `match_histograms`, with masks.

    Args:
        image: [b c *spatial], any range. NaN and infinities, and what is not valid, stay as they are.
        reference: [b c *spatial] of any size.
        valid: [b 1|c *spatial], true where `image` counts; None counts all.
        reference_valid: the same for `reference`.

    Raises:
        ShapeError: the two differ in samples or channels.
    """
    if image.ndim < 3 or image.shape[:2] != reference.shape[:2]:
        raise ShapeError(
            "two pictures [b c *spatial] of as many samples and channels are expected, got "
            f"{list(image.shape)} and {list(reference.shape)}"
        )
    counts, theirs = (_counting(x, v) for x, v in ((image, valid), (reference, reference_valid)))
    out = image.clone()
    for sample in range(image.shape[0]):
        for channel in range(image.shape[1]):
            place = (sample, channel)
            mine, true = image[place][counts[place]], reference[place][theirs[place]]
            if mine.numel() and true.numel():
                out[place][counts[place]] = _matched(mine, true)
    return out


def _counting(x: Tensor, valid: Tensor | None) -> Tensor:
    finite = torch.isfinite(x)
    return finite if valid is None else finite & valid.bool().expand(x.shape)


def _matched(mine: Tensor, true: Tensor) -> Tensor:
    """Return [n] values with the ranks of `mine` and the values of `true`, computed in float64."""
    wide = torch.float64 if mine.device.type != "mps" else mine.dtype
    _, inverse, counts = mine.unique(return_inverse=True, return_counts=True)
    values, their_counts = true.unique(return_counts=True)
    ranks, their_ranks = (n.to(wide).cumsum(0) / n.sum() for n in (counts, their_counts))
    right = torch.searchsorted(their_ranks, ranks).clamp(max=len(values) - 1)
    left = (right - 1).clamp(min=0)
    step = (their_ranks[right] - their_ranks[left]).clamp(min=1e-300)
    part = ((ranks - their_ranks[left]) / step).clamp(0, 1)
    low, high = values[left].to(wide), values[right].to(wide)
    return (low + (high - low) * part).to(mine.dtype)[inverse]
