"""What a MASK means for a picture that it does not fit."""

from __future__ import annotations

from torch import Tensor

from ..hypir_core.errors import RangeError
from ..hypir_core.image.resize import resize
from .convert import mask_to_b1hw

PLACEHOLDER_PX = (64, 64)
"""Size of the black mask that Load Image gives for a picture without transparency."""

NO_MASK = "the mask is Load Image's placeholder for no mask: the whole picture is restored"

BLACK_MASK = (
    "the mask is black everywhere, so the resized picture comes back as it was. Load Image's mask is white where a "
    "picture is transparent: paint in the mask editor, invert the mask, or disconnect it"
)


def fitted_masks(
    mask: Tensor | None, *, pictures: int, size_px: tuple[int, int]
) -> tuple[Tensor | None, tuple[str, ...]]:
    """Return a MASK [h w] or [b h w] as [pictures 1 *size_px] in [0,1], None for no mask, and what there is to say.

    A mask of another size is resized. A black one of 64×64 is what ComfyUI's Load Image gives where there is none;
    any other black one is obeyed, and told.

    Raises:
        RangeError: it holds NaN.
    """
    if mask is None:
        return None, ()
    masks, notes = mask_to_b1hw(mask, batch=pictures), ()
    own_px = (masks.shape[-2], masks.shape[-1])
    if bool(masks.isnan().any()):
        raise RangeError("the mask holds NaN (not a number); the node before it fails")
    black = not bool(masks.any())
    if black and own_px == PLACEHOLDER_PX != size_px:
        return None, (NO_MASK,)
    if own_px != size_px:
        notes = (
            f"the mask was resized from {own_px[1]}×{own_px[0]} to {size_px[1]}×{size_px[0]} px, the picture's size",
        )
        masks = resize(masks, size_px)
    return masks.clamp(0, 1), (BLACK_MASK,) if black else notes
