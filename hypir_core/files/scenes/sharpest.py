"""The sharpest plane of a stack of one channel: the one with the brightest pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import ShapeError
from ...tiling.geometry import Box
from .scene import Scene, values_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Sharpest:
    """A plane, and where it lies."""

    plane: np.ndarray
    """[rows columns], float32, in numbers of the file; NaN where there is no data."""
    place: tuple[int, ...]
    """Along the outer axes; () for a single plane."""
    brightest: float


def sharpest_plane(scene: Scene) -> Sharpest:
    """Return the plane with the brightest pixel; one plane is in memory.

    Raises:
        ShapeError: there are several channels.
        ImageFileError: a plane cannot be read.
    """
    grid = scene.grid
    if len(grid.bands) != 1:
        raise ShapeError(f"{scene.path}: expected one channel, got {len(grid.bands)}; split them first")
    *outer, height, width = grid.sizes
    best: Sharpest | None = None
    for index in np.ndindex(*outer):
        block = scene.block(Box((*index, 0, 0), (*[1] * len(outer), height, width)))
        plane = values_of(block.stored, grid).reshape(height, width)
        brightest = float(np.nanmax(plane, initial=-np.inf))
        if best is None or brightest > best.brightest:
            best = Sharpest(plane=plane, place=tuple(map(int, index)), brightest=brightest)
    assert best is not None
    return best
