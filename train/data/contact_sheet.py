"""A picture of training pairs, to look at before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .levels import from_01, to_01, viewable

LEAST_SIDE_PX = 256
"""Smaller crops are shown enlarged by a whole number."""
SHEET_PX = 2200
"""Width that the columns share."""
GAP_PX = 8
TEXT_PX = 13
LINES = 6
"""Most lines of text under a pair."""
PLAIN = str.maketrans({"×": "x", "→": "->", "σ": "sigma", "ω": "omega", "π": "pi", "β": "beta", "–": "-"})
"""Pillow's own font, the only one that is always there, lacks these signs."""


@dataclass(frozen=True, eq=False)
class LabelledPair:
    """One sample and what to write under it."""

    hq: Tensor
    """[c h w] of any depth; of more than three bands the first three are shown."""
    lq: Tensor
    """[c h/scale w/scale], the same."""
    lines: tuple[str, ...]


def contact_sheet(pairs: Sequence[LabelledPair]) -> Image.Image:
    """Lay out pairs in columns: the low-quality half, enlarged without smoothing, left of the target."""
    cells = [_cell(pair) for pair in pairs]
    width, height = cells[0].width, max(cell.height for cell in cells)
    columns = max(1, min(len(cells), SHEET_PX // (width + GAP_PX)))
    rows = -(-len(cells) // columns)
    sheet = Image.new(
        "RGB", (columns * (width + GAP_PX) + GAP_PX, rows * (height + GAP_PX) + GAP_PX), "white"
    )
    for place, cell in enumerate(cells):
        row, column = divmod(place, columns)
        sheet.paste(cell, (GAP_PX + column * (width + GAP_PX), GAP_PX + row * (height + GAP_PX)))
    return sheet


def _cell(pair: LabelledPair) -> Image.Image:
    hq, lq = _to_picture(pair.hq), _to_picture(pair.lq)
    times = max(1, -(-LEAST_SIDE_PX // max(hq.size)))
    shown_px = (hq.width * times, hq.height * times)
    font = ImageFont.load_default(TEXT_PX)
    line_px = TEXT_PX + 4
    width = 2 * shown_px[0] + GAP_PX // 2
    lines = [part for line in pair.lines for part in _wrapped(line.translate(PLAIN), font, width)][:LINES]
    cell = Image.new("RGB", (width, shown_px[1] + GAP_PX // 2 + len(lines) * line_px), "white")
    cell.paste(lq.resize(shown_px, Image.Resampling.NEAREST), (0, 0))
    cell.paste(hq.resize(shown_px, Image.Resampling.NEAREST), (width - shown_px[0], 0))
    draw = ImageDraw.Draw(cell)
    for number, line in enumerate(lines):
        draw.text((0, shown_px[1] + GAP_PX // 2 + number * line_px), line, fill="black", font=font)
    return cell


def _to_picture(image: Tensor) -> Image.Image:
    return Image.fromarray(
        from_01(to_01(viewable(image)), torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    )


def _wrapped(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> list[str]:
    """Break a line between words; a word that is too long by itself is cut."""
    parts, current = [], ""
    for word in line.split():
        longer = f"{current} {word}".strip()
        if current and font.getlength(longer) > width_px:
            parts.append(current)
            longer = word
        current = longer
        while font.getlength(current) > width_px:
            current = current[:-1]
    return [*parts, current]
