"""A result that stays in memory: a sink for planes that come from elsewhere than a file."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from torch import Tensor

from .grid import Grid
from .result import Order


class MemorySink:
    """Takes rows as `SceneSink` does; the result is an array of float32 values."""

    def __init__(self, grid: Grid, order: Order, factors: Mapping[str, int], bands: tuple[str, ...]):
        """Make room for a result of `grid`, enlarged by a factor for each axis, with other bands."""
        self.grid, self.order, self.factors = grid.enlarged(factors, bands), order, factors
        self.facts: dict[str, Any] = {}
        self.done_rows = 0
        sizes, loops = self.grid.sizes, order.loops
        groups = len(bands) // order.channels(self.grid)
        shape = (groups, *sizes[:loops], order.channels(self.grid), *sizes[loops:])
        self._values = np.empty(shape, np.float32)

    @property
    def array(self) -> np.ndarray:
        """Return the result, [*walked axes, c, *other axes]."""
        return np.concatenate(list(self._values), self.order.loops)

    @property
    def planes(self) -> int:
        """How many planes of rows and columns there are, channels not counted."""
        return prod(self.grid.sizes[:-2])

    def write(self, start_row: int, rows: Tensor, valid: Any = None) -> None:
        """Take rows [1 c r *others] of file values; NaN where there is no data."""
        values = rows[0].float().cpu().numpy()
        if valid is not None:
            values[:, ~valid] = np.nan
            self.facts["holes"] = self.facts.get("holes", 0) + int((~valid).sum())
        done, first = divmod(start_row, self.order.rows(self.grid))
        walked = self._values.shape[: self.order.loops + 1]
        place = np.unravel_index(done, walked)
        self._values[place][:, first : first + values.shape[1]] = values
        self.done_rows += values.shape[1]

    def part(self, plane: int, first: int, end: int) -> np.ndarray:
        """Return rows [first, end) of a plane, [c rows columns]."""
        loops, outer = self.order.loops, self.grid.sizes[:-2]
        index = np.unravel_index(plane, outer) if outer else ()
        of_plane = self.array[(*index[:loops], slice(None), *index[loops:])]
        return of_plane[:, first:end]
