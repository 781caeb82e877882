"""Rewriting a huge picture in place, block by block, when a block needs to see its original neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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
        Box((y, x), (min(block_px, height_px - y), min(block_px, width_px - x)))
        for y in range(0, height_px, block_px)
        for x in range(0, width_px, block_px)
    )


def rewrite_blocks_(
    image_bchw: Tensor, rewrite: Callable[[Tensor, Box], Tensor], *, block_px: int, halo_px: int
) -> Iterator[Box]:
    """Replace every block of a picture by what `rewrite` makes of it and its surroundings, in place.

    `rewrite(clip, box)` gets a copy of the *original* pixels under `box`, which is the block grown by
    `halo_px` where the picture goes on, and returns [b c *box.sizes], any device and dtype; only the block's
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
        (y0, x0), (y1, x1) = block.starts, block.ends
        if x0 == 0:
            above, next_above = next_above, image_bchw[..., max(0, y1 - halo_px) : y1, :].clone()
        box = grown(block, halo_px, (height, width))
        (top, lead), (_, right) = (y0 - box.starts[0], x0 - box.starts[1]), box.ends
        clip = under(image_bchw, box).clone()
        # What lies above and to the left has been rewritten already: put the original pixels back.
        if top:
            clip[..., :top, :] = above[..., box.starts[1] : right]
        if lead:
            clip[..., top : top + y1 - y0, :lead] = left
        left = image_bchw[..., y0:y1, max(0, x1 - halo_px) : x1].clone()
        under(image_bchw, block).copy_(under(rewrite(clip, box), Box((top, lead), block.sizes)))
        yield block


def under(image_bchw: Tensor, box: Box) -> Tensor:
    """Return the pixels under `box`, as a view."""
    (y0, x0), (y1, x1) = box.starts, box.ends
    return image_bchw[..., y0:y1, x0:x1]


def grown(block: Box, halo_px: int, sizes_px: Sequence[int]) -> Box:
    """Return a block with `halo_px` more on every side where a picture of `sizes_px` goes on."""
    starts = tuple(max(0, start - halo_px) for start in block.starts)
    ends = (min(size, end + halo_px) for size, end in zip(sizes_px, block.ends, strict=True))
    return Box(starts, tuple(end - start for start, end in zip(starts, ends, strict=True)))
