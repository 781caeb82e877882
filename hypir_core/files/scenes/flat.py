"""An array that lies in a file as it would in memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import BinaryIO

import numpy as np


class FlatArray:
    """Slices of an array in C order; only what is asked for is read, and nothing is mapped."""

    def __init__(self, file: BinaryIO, offset: int, shape: Sequence[int], dtype: np.dtype):
        self._file, self._offset = file, offset
        self.shape, self.dtype = tuple(shape), dtype

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        """Read a block.

        Raises:
            ValueError: the file ends before it.
        """
        *outer, rows, columns = (range(*s.indices(n)) for s, n in zip(key, self.shape, strict=True))
        *lengths, _, width = self.shape
        out = np.empty((*map(len, outer), len(rows), len(columns)), self.dtype)
        steps = [prod(self.shape[axis + 1 :]) for axis in range(len(lengths))]
        for place in product(*(range(len(r)) for r in outer)):
            at = sum(r[i] * step for r, i, step in zip(outer, place, steps, strict=True)) + rows.start * width
            out[place] = self._read(at, (len(rows), width))[:, columns.start : columns.stop]
        return out

    def _read(self, at: int, shape: tuple[int, int]) -> np.ndarray:
        self._file.seek(self._offset + at * self.dtype.itemsize)
        wanted = prod(shape) * self.dtype.itemsize
        data = self._file.read(wanted)
        if len(data) < wanted:
            raise ValueError(f"the file ends {wanted - len(data)} bytes too early")
        return np.frombuffer(data, self.dtype).reshape(shape)


class Reversed:
    """The same array with its axes in the opposite order: Fortran's order of a C array."""

    def __init__(self, array: FlatArray):
        self._array = array
        self.shape, self.dtype = array.shape[::-1], array.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        """Read a block."""
        return self._array[key[::-1]].T
