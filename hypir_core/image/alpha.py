"""Colour under transparency: what nobody sees is filled from what is seen beside it.

A cut-out often has black under its transparent part. A network or a resampling filter looks beyond the rim and draws
that black into it. The colour is filled by the pull-push scheme (Gortler et al., "The Lumigraph", SIGGRAPH 1996, section
3.4): averages of what is seen at ever coarser scales, and back.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def fill_transparent(color_01: Tensor, alpha_01: Tensor) -> Tensor:
    """Return a picture whose colour under full transparency continues that of its neighbours.

    Args:
        color_01: [b c h w], not premultiplied.
        alpha_01: [b 1 h w] in [0,1]; where it is above 0 the colour stays as it is.

    Returns:
        [b c h w]; the picture itself where nothing is fully transparent, or everything.
    """
    seen = (alpha_01 > 0).to(color_01)
    if bool(seen.min() == 1) or bool(seen.max() == 0):
        return color_01
    return torch.where(seen.bool(), color_01, _filled(color_01 * seen, seen)).to(color_01.dtype)


def _filled(weighted: Tensor, weight: Tensor) -> Tensor:
    """Return the average of what is seen, from the finest scale that sees anything at a place."""
    if max(weighted.shape[-2:]) == 1 or bool((weight > 0).all()):
        return weighted / weight.clamp_min(1e-6)
    h, w = weighted.shape[-2:]
    pad = (0, w % 2, 0, h % 2)
    # The mean over 2×2 with zeros around it: colour and weight shrink alike, so their ratio is the seen average.
    coarse_weighted, coarse_weight = (F.avg_pool2d(F.pad(x, pad), 2) for x in (weighted, weight))
    coarse = _filled(coarse_weighted, coarse_weight)
    size = (h + h % 2, w + w % 2)
    up = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[..., :h, :w]
    return torch.where(weight > 0, weighted / weight.clamp_min(1e-6), up)
