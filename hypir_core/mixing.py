"""The finished picture mixed with the input, in bands of rows: neither is held twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .engines.base import Prepared
from .finishing import BLOCK_PX
from .image.resize import resize_part


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """The input at the result's size, made part by part."""

    size_px: tuple[int, int]
    part: Callable[[int, int, int, int], Tensor]
    """(y0, y1, x0, x1) → [b c y1−y0 x1−x0]"""


def input_at_result_size(image: Tensor, size_px: tuple[int, int], prepared: Prepared) -> Input:
    """Return the input [b c h w] at the size of the result, or what the engine takes for it."""
    reference = prepared.reference_01
    if reference is None:
        return Input(size_px, lambda y0, y1, x0, x1: resize_part(image, size_px, (y0, y1), (x0, x1)))
    reference = reference[:, : image.shape[1]]  # grey went through the engine as three equal channels
    return Input(
        (reference.shape[-2], reference.shape[-1]), lambda y0, y1, x0, x1: reference[..., y0:y1, x0:x1]
    )


def blend_with_input_(content: Tensor, before: Input, strength: float, mask_01: Tensor | None) -> None:
    """Mix the result with the input, in place, in bands of rows; a mask [b|1 1 h w] multiplies the strength."""
    if strength == 1 and mask_01 is None:
        return
    height, width = before.size_px
    for y0 in range(0, height, BLOCK_PX):
        y1 = min(y0 + BLOCK_PX, height)
        amount: Tensor | float = strength
        if mask_01 is not None:
            mask = resize_part(mask_01.to(content.device), before.size_px, (y0, y1), (0, width))
            amount = strength * mask.clamp_(0, 1)
        old = before.part(y0, y1, 0, width).clamp(0, 1)
        content[..., y0:y1, :].sub_(old).mul_(amount).add_(old)
