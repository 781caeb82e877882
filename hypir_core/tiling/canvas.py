"""Where blended tiles are gathered: a whole canvas in memory, or a strip of it that is handed on when it is final."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Sequence
from math import prod
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

    def lacks(self, box: Box) -> bool:
        """Say whether a tile is wanted; of a run that goes on, the first ones are not."""
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

    def lacks(self, box: Box) -> bool:
        """Say that every tile is wanted."""
        del box
        return True

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

    def __init__(
        self,
        emit: Emit,
        shape: Sequence[int],
        strides: tuple[int, ...],
        rows: int,
        *,
        first_row: int = 0,
        budget_bytes: int | None = None,
    ):
        """Take the shape of the whole result, and how much of it is in work at a time.

        Args:
            emit: takes final rows.
            shape: [b c *cells].
            strides: output pixels of a cell along every axis.
            rows: of the highest tile.
            first_row: rows above it are known and not handed on.
            budget_bytes: a strip that is larger lies in a scratch file; None keeps it in memory.
        """
        self._emit = emit
        self._strides = strides
        (images, channels, length, *rest) = shape
        of_row = images * channels * prod(rest) * 4
        rows = min(rows, length)
        if budget_bytes is None or rows * of_row <= budget_bytes:
            self._strip: _Strip = _MemoryStrip((images, channels, rows, *rest))
        else:
            self._strip = _FileStrip((images, channels, rows, *rest))
        self._at_once = ROWS_AT_ONCE
        if budget_bytes is not None:
            self._at_once = max(1, min(ROWS_AT_ONCE, budget_bytes // 4 // of_row))
        self._top = self._end = self._first = first_row
        self._total = length

    @property
    def emitted(self) -> bool:
        """Whether rows were handed on: from then on a stage cannot begin anew."""
        return self._top > self._first

    def add(self, box: Box, weighted: Tensor) -> None:
        """Add a weighted tile; rows above its start are final and are handed on."""
        (start, *starts), (end, *ends) = (
            [at // s for at, s in zip(edge, self._strides, strict=True)] for edge in (box.starts, box.ends)
        )
        self._hand_on(start)
        known = max(0, self._top - start)
        if start + known >= end:
            return
        self._end = max(self._end, end)
        inside = (slice(start + known - self._top, end - self._top), *map(slice, starts, ends))
        self._strip.add(inside, weighted[:, :, known:])

    def lacks(self, box: Box) -> bool:
        """Say whether a tile reaches below the rows that are known."""
        return box.ends[0] > self._first * self._strides[0]

    def finish(self) -> None:
        """Hand on what is left."""
        self._hand_on(self._total)

    def shown(self) -> Tensor:
        """Return the strip; of one in a file, nothing."""
        return self._strip.shown()

    def _hand_on(self, upto: int) -> None:
        rows = upto - self._top
        if rows <= 0:
            return
        for first in range(0, rows, self._at_once):
            end = min(first + self._at_once, rows)
            self._emit(self._top + first, self._strip.rows(first, end))
        self._strip.shift(rows, max(self._end - upto, 0))
        self._top = upto


class _Strip(Protocol):
    """Rows [b c rows *rest] in which tiles are added up."""

    def add(self, inside: tuple[slice, ...], weighted: Tensor) -> None:
        """Add to a part."""
        ...

    def rows(self, first: int, end: int) -> Tensor:
        """Return some rows; they may be a view."""
        ...

    def shift(self, by: int, left: int) -> None:
        """Move `left` rows that begin at `by` to the top, and make the others zero."""
        ...

    def shown(self) -> Tensor:
        """Return what can be shown."""
        ...


class _MemoryStrip:
    def __init__(self, shape: tuple[int, ...]):
        self._data = torch.zeros(shape)

    def add(self, inside: tuple[slice, ...], weighted: Tensor) -> None:
        self._data[(..., *inside)].add_(weighted.to(self._data.device))

    def rows(self, first: int, end: int) -> Tensor:
        return self._data[:, :, first:end]

    def shift(self, by: int, left: int) -> None:
        if left:
            self._data[:, :, :left] = self._data[:, :, by : by + left].clone()
        self._data[:, :, left:].zero_()

    def shown(self) -> Tensor:
        return self._data


class _FileStrip:
    """A ring of rows [b c *rest] in a scratch file; only what a tile touches is in memory."""

    def __init__(self, shape: tuple[int, ...]):
        self._images, self._channels, self._rows, *self._rest = shape
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # gone with the strip
        weakref.finalize(self, self._file.close)
        self._of_row = self._images * self._channels * prod(self._rest)
        self._file.truncate(self._rows * self._of_row * 4)
        self._top = 0

    def add(self, inside: tuple[slice, ...], weighted: Tensor) -> None:
        rows, second, *_ = (*inside, slice(0, 1))
        tile = weighted.cpu()
        if len(inside) == 1:
            second = slice(0, 1)
        run = prod(self._rest[1:])
        images = self._images * self._channels
        for number, row in enumerate(range(rows.start, rows.stop)):
            values = tile[:, :, number].reshape(images, *tile.shape[3:])
            for plane in range(images):
                at = (self._place(row) * self._of_row + plane * prod(self._rest)) + second.start * run
                count = (second.stop - second.start) * run
                there = self._read(at, count).view(second.stop - second.start, *self._rest[1:])
                there[(slice(None), *inside[2:])] += values[plane]
                self._write(at, there)

    def rows(self, first: int, end: int) -> Tensor:
        shape = (self._images, self._channels, *self._rest)
        found = [
            self._read(self._place(r) * self._of_row, self._of_row).view(shape) for r in range(first, end)
        ]
        return torch.stack(found, 2)

    def shift(self, by: int, left: int) -> None:
        kept = {self._place(by + row) for row in range(left)}
        self._top = (self._top + by) % self._rows
        zeros = torch.zeros(self._of_row)
        for place in range(self._rows):
            if place not in kept:
                self._write(place * self._of_row, zeros)

    def shown(self) -> Tensor:
        return torch.zeros(self._images, self._channels, 0, *self._rest)

    def _place(self, row: int) -> int:
        return (self._top + row) % self._rows

    def _read(self, at: int, count: int) -> Tensor:
        self._file.seek(at * 4)
        return torch.frombuffer(bytearray(self._file.read(count * 4)), dtype=torch.float32)

    def _write(self, at: int, values: Tensor) -> None:
        self._file.seek(at * 4)
        self._file.write(values.contiguous().numpy().data)
