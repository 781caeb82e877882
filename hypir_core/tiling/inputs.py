"""What a stage's function is given for some tiles: cells of the source, and of the guides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .geometry import Box, Plane, Readable
from .stage import Guide
from .transfer import sent


def tile_inputs(
    guides: Mapping[str, Plane], source: Readable, boxes: Sequence[Box], device: torch.device
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what `stage.run` gets for these boxes: [boxes · images c *cells], and the guides cropped alike.

    A guide of one image serves all images of the source.
    """
    cropped = {name: _gather(guide, boxes, device, images=source.images) for name, guide in guides.items()}
    return _gather(source, boxes, device, images=source.images), cropped


def made(guides: Mapping[str, Guide]) -> dict[str, Plane]:
    """Return the planes of guides, those made that are functions."""
    return {name: guide if isinstance(guide, Plane) else guide() for name, guide in guides.items()}


def _gather(source: Readable, boxes: Sequence[Box], device: torch.device, *, images: int) -> Tensor:
    crops = [sent(source.crop(box), device) for box in boxes]
    if source.images != images:
        crops = [crop.expand(images, *crop.shape[1:]) for crop in crops]
    return torch.cat(crops)
