"""Between ComfyUI's tensors and the core's: IMAGE [b h w c] ↔ [b c h w], MASK [b h w] ↔ [b 1 h w]."""

from __future__ import annotations

import torch
from torch import Tensor

from ..hypir_core.errors import RangeError, ShapeError


def to_bchw(image_bhwc: Tensor) -> tuple[Tensor, Tensor | None]:
    """Split an IMAGE into colour [b 1|3 h w] and alpha [b 1 h w] or None; float32, clamped to [0,1].

    Raises:
        ShapeError: not a picture of 1 to 4 channels.
        RangeError: it holds NaN.
    """
    if image_bhwc.ndim != 4 or not 1 <= image_bhwc.shape[-1] <= 4:
        raise ShapeError(f"expected an IMAGE [batch height width 1 to 4], got {list(image_bhwc.shape)}")
    planes = image_bhwc.float().clamp(0, 1).movedim(-1, 1)
    if bool(planes.isnan().any()):
        raise RangeError("the IMAGE holds NaN (not a number); the node that made it fails, look there")
    if planes.shape[1] in {2, 4}:
        return planes[:, :-1], planes[:, -1:]
    return planes, None


def to_bhwc(color_bchw: Tensor, alpha_b1hw: Tensor | None = None) -> Tensor:
    """Join colour and alpha into an IMAGE; grey becomes RGB, because many nodes expect three channels."""
    color = color_bchw.expand(-1, 3, -1, -1)
    planes = color if alpha_b1hw is None else torch.cat((color, alpha_b1hw), dim=1)
    return planes.movedim(1, -1).contiguous()


def mask_to_b1hw(mask: Tensor, *, batch: int) -> Tensor:
    """Return a MASK [h w] or [b h w] as [batch 1 h w], the last mask repeated where there are too few."""
    masks = mask.float().reshape(-1, 1, *mask.shape[-2:])
    index = torch.arange(batch).clamp_max(len(masks) - 1)
    return masks[index]
