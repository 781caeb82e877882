"""Pictures of any bands and axes for a screen: chosen bands, the middle slice, stretched where values have no bounds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .levels import viewable

STRETCH = (0.02, 0.98)
"""Quantiles of the target that become black and white where values are not those of pictures."""

MOST_VALUES = 1 << 20
"""So many values of a target are looked at for that."""


def for_screen(images: Sequence[Tensor], *, bands: Sequence[int] | None, bounded: bool) -> tuple[Tensor, ...]:
    """Return images [c *cells] of one place as [3 h w], [0,1], all with the stretch of the last, the target.

    Args:
        images: low quality, restored and target, in file values.
        bands: which channels are red, green and blue, or one for grey; None: the first three, or the first.
        bounded: values lie in [0,1] already.
    """
    flat = [_flat(image.detach().float().cpu(), bands) for image in images]
    if bounded:
        return tuple(flat)
    target = flat[-1]
    finite = target[:, torch.isfinite(target).all(0)]
    if not finite.numel():
        return tuple(torch.zeros_like(each) for each in flat)
    step = max(1, finite.shape[1] // (MOST_VALUES // 3))
    low, high = torch.quantile(finite[:, ::step], torch.tensor(STRETCH), dim=1)
    width = (high - low).clamp(min=1e-12).view(3, 1, 1)
    stretched = ((each - low.view(3, 1, 1)) / width for each in flat)
    return tuple(torch.nan_to_num(each, nan=0.0).clamp(0, 1) for each in stretched)


def _flat(image: Tensor, bands: Sequence[int] | None) -> Tensor:
    while image.ndim > 3:
        image = image[:, image.shape[1] // 2]
    if bands is None:
        return viewable(image)
    known = [min(band, image.shape[0] - 1) for band in bands]
    return viewable(image[known])
