"""Edges before the restoration and sharpening after it, block by block: memory does not grow with the picture."""

from __future__ import annotations

from torch import Tensor

from .color.blocks import block_boxes, rewrite_blocks_
from .errors import Cancelled, ConfigError
from .image.finish import REACH_PX, edge_enhance, sharpen
from .progress import Progress, ShouldStop, Tick, never, silent

BLOCK_PX = 512
"""Side of the blocks in which the finishing touches pass over a picture."""

STAGE = "sharpen"
"""Name of this stage in progress reports."""


def check_luma(**touches: tuple[float, int]) -> None:
    """Raise ConfigError where what is to be sharpened has no luma: neither grey nor RGB.

    Takes name = (strength, channels of what it is done to).
    """
    problems = [
        f"{name} needs grey or RGB, got {channels} channels; leave it out"
        for name, (strength, channels) in touches.items()
        if strength > 0 and channels not in {1, 3}
    ]
    if problems:
        raise ConfigError(problems)


def sharpen_(
    picture_01: Tensor, strength: float, *, progress: Progress = silent, should_stop: ShouldStop = never
) -> Tensor:
    """Do what `image.finish.sharpen` does, in place.

    Shapes: [b 1|3 h w] float32 in [0,1]; returned, overwritten. The result does not depend on the blocks.

    Raises:
        ShapeError, RangeError: as `image.finish.sharpen`.
        Cancelled: `should_stop` answered yes; the picture is left half sharpened.
    """
    if strength == 0:
        return picture_01
    total = len(block_boxes(picture_01.shape[-2], picture_01.shape[-1], BLOCK_PX))
    rewritten = rewrite_blocks_(
        picture_01, lambda clip, _box: sharpen(clip, strength), block_px=BLOCK_PX, halo_px=REACH_PX
    )
    for done, _ in enumerate(rewritten, 1):
        progress(Tick(STAGE, done, total, picture_01))
        if done < total and should_stop():
            raise Cancelled("stopped while sharpening")
    return picture_01


def edges_enhanced(image_01: Tensor, strength: float) -> Tensor:
    """Do what `image.finish.edge_enhance` does, into a copy; the picture itself is returned with strength 0.

    Shapes and errors as `image.finish.edge_enhance`; the result does not depend on the blocks.
    """
    if strength == 0:
        return image_01
    copy = image_01.float().clone()
    for _ in rewrite_blocks_(
        copy, lambda clip, _box: edge_enhance(clip, strength), block_px=BLOCK_PX, halo_px=REACH_PX
    ):
        pass
    return copy
