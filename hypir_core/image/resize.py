"""Bicubic resizing, antialiased when it shrinks, of a whole picture or of any part of its result.

Convention: pixel centres at half-integers (align_corners false), Keys' cubic kernel with a = −0.5 (Keys 1981,
eq. 4), stretched by the shrink factor when shrinking, taps outside the picture dropped and the rest normalised.
This is what Pillow's BICUBIC and torch's ``interpolate(mode="bicubic", antialias=True)`` compute.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

KEYS_A = -0.5

CHUNK = 512
"""Output cells per matrix product: the taps of so few lie close together, so the matrix is small."""


def resize(image_bchw: Tensor, size_px: tuple[int, int]) -> Tensor:
    """Resize a whole picture. [b c h w] → [b c *size_px], same format and device, not clamped."""
    h, w = image_bchw.shape[-2:]
    if (h, w) == tuple(size_px):
        return image_bchw
    if 1 in (h, w, *size_px):  # torch 2.15's antialiased bicubic is wrong where a side is one pixel
        return resize_part(image_bchw, size_px, (0, size_px[0]), (0, size_px[1])).to(image_bchw.dtype)
    return F.interpolate(image_bchw, size=size_px, mode="bicubic", antialias=True, align_corners=False)


def resize_part(
    image_bchw: Tensor, size_px: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> Tensor:
    """Return rows [rows[0], rows[1]) and the same of columns of `resize(image, size_px)`, without the rest.

    Shapes: [b c h w] → [b c rows columns], float32.
    """
    source_columns = _sources(image_bchw.shape[-1], size_px[1], columns)
    x = image_bchw[..., source_columns[0] : source_columns[1]].float()
    x = _resize_axis(x, -2, size_px[0], rows, whole=image_bchw.shape[-2], offset=0)
    return _resize_axis(x, -1, size_px[1], columns, whole=image_bchw.shape[-1], offset=source_columns[0])


def resize_band(
    read: Callable[[int, int], Tensor],
    sizes: tuple[int, int],
    size_px: tuple[int, int],
    rows: tuple[int, int],
) -> Tensor:
    """Return rows [rows[0], rows[1]) of a resized picture that is read a few rows at a time.

    Args:
        read: (first, end) → rows [first, end) of the picture, [b c rows w].
        sizes: its height and width.
        size_px: height and width of the whole result.
        rows: the part that is wanted.

    Shapes: → [b c rows size_px[1]], float32, not clamped.
    """
    first, end = source_rows(sizes[0], size_px[0], rows)
    x = _resize_axis(read(first, end).float(), -2, size_px[0], rows, whole=sizes[0], offset=first)
    return _resize_axis(x, -1, size_px[1], (0, size_px[1]), whole=sizes[1], offset=0)


def source_rows(length: int, size_px: int, rows: tuple[int, int]) -> tuple[int, int]:
    """Return the range of rows, of `length`, that rows of a result of `size_px` are made of."""
    return _sources(length, size_px, rows)


def _sources(length: int, size_px: int, part: tuple[int, int]) -> tuple[int, int]:
    """Return the range of source cells that a part of one axis is made of."""
    if length == size_px:
        return part
    index, _ = _taps(length, size_px)
    return int(index[part[0] : part[1]].min()), int(index[part[0] : part[1]].max()) + 1


def _resize_axis(
    x: Tensor, dim: int, size_px: int, part: tuple[int, int], *, whole: int, offset: int
) -> Tensor:
    """Resize one axis of `x`, which holds the source cells from `offset` on of an axis of `whole` cells."""
    if whole == size_px:
        return x.narrow(dim, part[0] - offset, part[1] - part[0])
    index, weights = _taps(whole, size_px)
    pieces = []
    for first in range(part[0], part[1], CHUNK):
        cells = slice(first, min(first + CHUNK, part[1]))
        low, high = int(index[cells].min()), int(index[cells].max()) + 1
        matrix = torch.zeros(cells.stop - cells.start, high - low)
        matrix = matrix.scatter_add_(1, index[cells] - low, weights[cells]).to(x.device)
        source = x.narrow(dim, low - offset, high - low)
        pieces.append(matrix @ source if dim == -2 else source @ matrix.mT)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)


@lru_cache(maxsize=8)
def _taps(length: int, size_px: int) -> tuple[Tensor, Tensor]:
    """Return source indices and weights [size_px taps] of every output cell along one axis."""
    ratio = length / size_px
    stretch = max(ratio, 1.0)
    centre = (torch.arange(size_px, dtype=torch.float64) + 0.5) * ratio
    first = (centre - 2 * stretch + 0.5).floor().long()
    taps = int(4 * stretch) + 2
    index = first[:, None] + torch.arange(taps)
    distance = ((index + 0.5 - centre[:, None]) / stretch).abs()
    weights = _keys(distance) * ((index >= 0) & (index < length))
    weights = weights / weights.sum(1, keepdim=True)
    return index.clamp(0, length - 1), weights.float()


def _keys(d: Tensor) -> Tensor:
    near = (KEYS_A + 2) * d**3 - (KEYS_A + 3) * d**2 + 1
    far = KEYS_A * (d**3 - 5 * d**2 + 8 * d - 4)
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
