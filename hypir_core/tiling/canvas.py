"""Where blended tiles are gathered: a whole canvas in memory, or a strip of it that is handed on when it is final."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from .geometry import Box, Plane

Emit = Callable[[int, Tensor], None]
"""(first row, rows [b c rows *rest]): rows that no later tile will change, in order, each once."""


ROWS_AT_ONCE = 128
"""Rows that are handed on together: whoever takes them may need a copy."""


class Canvas(Protocol):
    """Where the tiles of one stage are added up."""

    def add(self, box: Box, weighted: Tensor) -> None:
        """Add a weighted tile [b c *cells]; boxes are in output pixels, their starts along the first axis never fall."""
        ...

    def finish(self) -> None:
        """Say that every tile was added."""
        ...

    def shown(self) -> Tensor:
        """Return what there is so far, [b c *cells], for previews."""
        ...


class MemoryCanvas:
    """The whole canvas."""

    def __init__(self, plane: Plane):
        self._plane = plane

    def add(self, box: Box, weighted: Tensor) -> None:
        """Add a weighted tile."""
        cells = self._plane.crop(box)
        cells.add_(weighted.to(cells.device))

    def finish(self) -> None:
        """Nothing is left to do."""

    def shown(self) -> Tensor:
        """Return the canvas."""
        return self._plane.data


class StripCanvas:
    """Rows from the first that is not final to the last that a tile reaches; final rows are handed on.

    Blend weights sum to one along every axis, so a row is final as soon as the next row of tiles starts below it:
    no division, and each tile runs once.
    """

    def __init__(self, emit: Emit, shape: Sequence[int], strides: tuple[int, ...], rows: int):
        """Take the shape of the whole result [b c *cells], its strides, and how many rows the highest tile has."""
        self._emit = emit
        self._strides = strides
        self._strip = torch.zeros(*shape[:2], min(rows, shape[2]), *shape[3:])
        self._top = self._end = 0
        self._total = shape[2]

    @property
    def emitted(self) -> bool:
        """Whether rows were handed on: from then on a stage cannot begin anew."""
        return self._top > 0

    def add(self, box: Box, weighted: Tensor) -> None:
        """Add a weighted tile; rows above its start are final and are handed on."""
        (start, *starts), (end, *ends) = (
            [at // s for at, s in zip(edge, self._strides, strict=True)] for edge in (box.starts, box.ends)
        )
        self._hand_on(start)
        self._end = max(self._end, end)
        inside = (slice(start - self._top, end - self._top), *map(slice, starts, ends))
        self._strip[(..., *inside)].add_(weighted.to(self._strip.device))

    def finish(self) -> None:
        """Hand on what is left."""
        self._hand_on(self._total)

    def shown(self) -> Tensor:
        """Return the strip."""
        return self._strip

    def _hand_on(self, upto: int) -> None:
        rows = upto - self._top
        if rows <= 0:
            return
        for first in range(0, rows, ROWS_AT_ONCE):
            end = min(first + ROWS_AT_ONCE, rows)
            self._emit(self._top + first, self._strip[:, :, first:end])
        left = self._end - upto
        if left > 0:
            self._strip[:, :, :left] = self._strip[:, :, rows : rows + left].clone()
        self._strip[:, :, max(left, 0) :].zero_()
        self._top = upto
