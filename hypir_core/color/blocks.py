"""Rewriting a huge picture in place, block by block, when a block needs to see its original neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from ..errors import ConfigError
from ..tiling.geometry import Box


def block_boxes(height_px: int, width_px: int, block_px: int) -> tuple[Box, ...]:
    """Cut a canvas into blocks of at most `block_px` × `block_px`, row by row, without overlap.

    Raises:
        ConfigError: `block_px` is not positive.
    """
    if block_px < 1:
        raise ConfigError(f"block size must be at least 1 px, got {block_px}")
    return tuple(
        Box(y, x, min(block_px, height_px - y), min(block_px, width_px - x))
        for y in range(0, height_px, block_px)
        for x in range(0, width_px, block_px)
    )


def rewrite_blocks_(
    image_bchw: Tensor, rewrite: Callable[[Tensor, Box], Tensor], *, block_px: int, halo_px: int
) -> Iterator[Box]:
    """Replace every block of a picture by what `rewrite` makes of it and its surroundings, in place.

    `rewrite(clip, box)` gets a copy of the *original* pixels under `box`, which is the block grown by
    `halo_px` where the picture goes on, and returns [b c box.h box.w], any device and dtype; only the block's
    own pixels of it are kept. Yields each block once it is written, so that the caller can report or stop.

    Beyond the picture it holds one clip, one strip of `halo_px` rows and one of `halo_px` columns.

    Raises:
        ConfigError: `block_px` is not positive, or smaller than `halo_px`.
    """
    if block_px < halo_px:
        raise ConfigError(f"block size must be at least {halo_px} px, got {block_px}")
    height, width = image_bchw.shape[-2:]
    above = left = next_above = image_bchw[..., :0, :0]
    for block in block_boxes(height, width, block_px):
        y1, x1 = block.y + block.h, block.x + block.w
        if block.x == 0:
            above, next_above = next_above, image_bchw[..., max(0, y1 - halo_px) : y1, :].clone()
        box = _grown(block, halo_px, height, width)
        top, lead = block.y - box.y, block.x - box.x
        clip = under(image_bchw, box).clone()
        # What lies above and to the left has been rewritten already: put the original pixels back.
        if top:
            clip[..., :top, :] = above[..., box.x : box.x + box.w]
        if lead:
            clip[..., top : top + block.h, :lead] = left
        left = image_bchw[..., block.y : y1, max(0, x1 - halo_px) : x1].clone()
        under(image_bchw, block).copy_(under(rewrite(clip, box), Box(top, lead, block.h, block.w)))
        yield block


def under(image_bchw: Tensor, box: Box) -> Tensor:
    """Return the pixels under `box`, as a view."""
    return image_bchw[..., box.y : box.y + box.h, box.x : box.x + box.w]


def _grown(block: Box, halo_px: int, height_px: int, width_px: int) -> Box:
    y, x = max(0, block.y - halo_px), max(0, block.x - halo_px)
    y1, x1 = min(height_px, block.y + block.h + halo_px), min(width_px, block.x + block.w + halo_px)
    return Box(y, x, y1 - y, x1 - x)
