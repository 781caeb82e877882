"""Lines where the light changes fast: Canny's edges, white on black.

Canny, "A Computational Approach to Edge Detection" (1986), as kornia computes it: a Gaussian of σ = 1 px, Sobel
gradients, the crest of every edge, and hysteresis between two thresholds. The default thresholds are those that the
published ControlNets were trained with, 100 and 200 of 255.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..color.blocks import block_boxes, grown, under
from ..errors import MissingDependencyError
from ..image.resize import resize_part
from ..tiling.geometry import Box
from .base import ConditionPicture, ConditionSettings, Make

BLOCK_PX = 2048
"""Side of the blocks: kornia holds about forty pictures at a time."""

HALO_PX = 64
"""How far beyond a block a line is followed to a strong edge."""


def load_edge(settings: ConditionSettings) -> Make:
    """Return what draws the edges of a picture at the wanted size.

    Thresholds shrink with the steepness of edges where a picture is enlarged, so that the lines are those of the
    picture, whatever the scale.

    Raises:
        MissingDependencyError: kornia is not installed.
    """
    try:
        from kornia.filters import canny
    except ImportError as err:
        raise MissingDependencyError("kornia", "diffusion", "the guide 'edge'") from err

    def draw(picture_01: Tensor, size_px: tuple[int, int]) -> ConditionPicture:
        flatter = min(1.0, max(a / b for a, b in zip(picture_01.shape[-2:], size_px, strict=True)))
        low, high = settings.edge_low * flatter, settings.edge_high * flatter
        lines = torch.zeros(len(picture_01), 1, *size_px, device=picture_01.device)
        for block in block_boxes(*size_px, BLOCK_PX):
            around = grown(block, HALO_PX, size_px)
            (y0, x0), (y1, x1) = around.starts, around.ends
            clip = resize_part(picture_01, size_px, (y0, y1), (x0, x1)).clamp_(0, 1)
            found = canny(clip, low_threshold=low, high_threshold=high)[1]
            inside = Box(tuple(a - b for a, b in zip(block.starts, around.starts, strict=True)), block.sizes)
            under(lines, block).copy_(under(found, inside))
        return ConditionPicture(picture_01=lines.expand(-1, 3, -1, -1))

    return draw
