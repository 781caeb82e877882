"""How visible the borders between tiles are."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ..errors import ShapeError


def seam_measure(image_bchw: Tensor, rows_px: Iterable[int], cols_px: Iterable[int]) -> float:
    """Return the mean absolute gradient across the given border lines ÷ that of the rest of the picture.

    1.0 means no seam; 2.0 means that steps at the borders are on average twice as high as elsewhere. Steps
    between rows are compared with steps between rows, columns with columns, so that a picture of horizontal
    lines is not taken for one with seams.

    Args:
        image_bchw: the picture, [b c h w], any range.
        rows_px: borders between rows: y stands for the line between row y−1 and row y, 1 ≤ y < h.
        cols_px: borders between columns, likewise.

    Raises:
        ShapeError: no line is given, a line is not inside the picture, or every line of a direction is given.
    """
    rows, cols = sorted(set(rows_px)), sorted(set(cols_px))
    if not rows and not cols:
        raise ShapeError("no border line was given; a picture of one tile has no seam to measure")
    at_seams = elsewhere = 0.0
    for dim, lines in ((-2, rows), (-1, cols)):
        if not lines:
            continue
        size = image_bchw.shape[dim]
        if lines[0] < 1 or lines[-1] >= size:
            raise ShapeError(f"border lines must be from 1 to {size - 1} px, got {lines}")
        if len(lines) == size - 1:
            raise ShapeError(f"every line of this direction is a border: nothing to compare {lines} with")
        steps = _mean_step_per_line(image_bchw, dim)
        is_seam = torch.zeros(size - 1, dtype=torch.bool)
        is_seam[torch.tensor(lines) - 1] = True
        # Every border pixel weighs the same, whatever its direction.
        weight = len(lines) * image_bchw.shape[-1 if dim == -2 else -2]
        at_seams += weight * float(steps[is_seam].mean())
        elsewhere += weight * float(steps[~is_seam].mean())
    if elsewhere == 0:
        return 1.0 if at_seams == 0 else math.inf
    return at_seams / elsewhere


def _mean_step_per_line(image_bchw: Tensor, dim: int) -> Tensor:
    """Return the mean absolute difference across each line between rows or columns, [size-1] on the CPU."""
    size = image_bchw.shape[dim]
    steps = (image_bchw.narrow(dim, 1, size - 1) - image_bchw.narrow(dim, 0, size - 1)).abs()
    other = -1 if dim == -2 else -2
    return steps.float().mean(dim=(0, 1, other)).cpu()
