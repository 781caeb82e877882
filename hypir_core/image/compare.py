"""One labelled picture of before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ShapeError
from .lettering import font_for
from .resize import resize

PLEASANT_ASPECT = 1.6
"""Width ÷ height that a screen or a page shows best; the two pictures are laid out to come close to it."""

GAP_PART = 0.01
"""Width of the gap between the pictures, as a part of the longer side of a picture."""

CAPTION_PART = 0.045
"""Height of the letters, as a part of the longer side of a picture."""

CAPTION_MIN_PX = 12

PAPER = (0.09, 0.09, 0.10)
INK = (0.96, 0.96, 0.96)


def compare_picture(
    before_01: Tensor,
    after_01: Tensor,
    *,
    labels: tuple[str, str] = ("before", "after"),
    max_side_px: int = 2048,
) -> Tensor:
    """Lay two pictures out next to each other, each under its label.

    Both get the size of `after`, shrunk so that no side is longer than `max_side_px` (bicubic). Tall pictures
    stand side by side, wide ones above each other: whichever fills a screen better.

    Shapes: two pictures [1 c h w], each 1 or 3 channels, any sizes, range [0,1] (clamped) → [1 3 H W],
    float32, range [0,1], on the CPU.

    Raises:
        ShapeError: not one picture each, or another number of channels.
    """
    height, width = size = _shown_size(after_01, max_side_px)
    text_px = max(CAPTION_MIN_PX, round(max(size) * CAPTION_PART))
    gap_px = max(2, round(max(size) * GAP_PART))
    before, after = (
        torch.cat((_caption(label, round(text_px * 1.6), width, text_px), _panel(picture, size)), dim=1)
        for picture, label in zip((before_01, after_01), labels, strict=True)
    )
    side_by_side = _distance(2 * width, height) <= _distance(width, 2 * height)
    if side_by_side:
        return torch.cat((before, _flat(PAPER).expand(3, before.shape[1], gap_px), after), dim=2)[None]
    return torch.cat((before, _flat(PAPER).expand(3, gap_px, width), after), dim=1)[None]


def compare_row(pictures_01: Sequence[Tensor], *, labels: Sequence[str]) -> Tensor:
    """Lay several pictures of one size out in a row, each under its label.

    Shapes: pictures [1 c h w], each 1 or 3 channels, range [0,1] (clamped) → [1 3 H W], float32, range [0,1], on the
    CPU.

    Raises:
        ShapeError: not one picture each, or another number of channels.
    """
    height, width = size = _shown_size(pictures_01[0], max_side_px=2048)
    text_px = max(CAPTION_MIN_PX, round(max(size) * CAPTION_PART))
    gap = _flat(PAPER).expand(3, height + round(text_px * 1.6), max(2, round(max(size) * GAP_PART)))
    row: list[Tensor] = []
    for picture, label in zip(pictures_01, labels, strict=True):
        panel = torch.cat(
            (_caption(label, round(text_px * 1.6), width, text_px), _panel(picture, size)), dim=1
        )
        row += [panel] if not row else [gap, panel]
    return torch.cat(row, dim=2)[None]


def _shown_size(picture: Tensor, max_side_px: int) -> tuple[int, int]:
    height, width = picture.shape[-2:]
    shrink = min(1.0, max_side_px / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def _panel(picture_01: Tensor, size_px: tuple[int, int]) -> Tensor:
    if picture_01.ndim != 4 or picture_01.shape[0] != 1 or picture_01.shape[1] not in {1, 3}:
        raise ShapeError(f"a comparison needs pictures [1 1 h w] or [1 3 h w], got {list(picture_01.shape)}")
    return resize(picture_01.float().cpu(), size_px).clamp(0, 1)[0].expand(3, -1, -1)


def _caption(label: str, height_px: int, width_px: int, text_px: int) -> Tensor:
    """Draw a label on a strip of paper, smaller if it is too long; returns [3 height width]."""
    import numpy as np
    from PIL import Image, ImageDraw

    strip = Image.new("L", (width_px, height_px))
    draw = ImageDraw.Draw(strip)
    length_px = draw.textlength(label, font=font_for(label, text_px))
    fitting_px = max(1, math.floor(text_px * min(1.0, 0.96 * width_px / max(length_px, 1))))
    place = (width_px / 2, height_px / 2)
    draw.text(place, label, fill=255, font=font_for(label, fitting_px), anchor="mm")
    coverage = torch.from_numpy(np.asarray(strip, dtype=np.float32) / 255)
    return _flat(PAPER).lerp(_flat(INK), coverage)


def _flat(color: tuple[float, float, float]) -> Tensor:
    return torch.tensor(color).reshape(3, 1, 1)


def _distance(width_px: int, height_px: int) -> float:
    return abs(math.log(width_px / height_px / PLEASANT_ASPECT))
