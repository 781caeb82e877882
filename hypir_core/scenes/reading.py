"""What a network reads of a scene: values in its unit, holes filled, one pass at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..errors import ImageFileError
from ..files.scenes.scene import Scene, values_of
from ..image.histogram import Statistics
from ..image.holes import fill_holes
from ..tiling.geometry import Box, cells_of

READ_VALUES = 1 << 22
"""Values that are read at a time where a whole scene is looked at."""


class Pass:
    """What one pass reads: some channels, at one index of the walked axes; holes are filled. A `Readable`."""

    def __init__(self, values: Values, channels: slice, index: tuple[int, ...], rings: int):
        self._values, self._index, self._rings = values, index, rings
        scene = values.scene
        self._channels = range(scene.channels)[channels]
        self.sizes_px: tuple[int, ...] = scene.grid.sizes[len(index) :]
        self.strides: tuple[int, ...] = (1,) * len(self.sizes_px)
        self.images, self.channels = 1, len(self._channels)

    def crop(self, box: Box) -> Tensor:
        """Read the cells under `box`, [1 c *cells]."""
        cells_of(box, self)
        n = self._rings
        starts = tuple(max(0, start - n) for start in box.starts)
        ends = tuple(min(size, end + n) for end, size in zip(box.ends, self.sizes_px, strict=True))
        x, valid = self._read(Box(starts, tuple(e - s for s, e in zip(starts, ends, strict=True))))
        if valid is not None:
            x = fill_holes(x, valid, max(n, 1))
        inside = [slice(a - b, a - b + n) for a, b, n in zip(box.starts, starts, box.sizes, strict=True)]
        return x[(..., *inside)]

    def statistics(self) -> Statistics:
        """Return those of the whole scene: all slices are treated alike."""
        of_channels = self._values.statistics
        return (
            of_channels[self._channels[0]] if len(self._channels) < len(of_channels) - 1 else of_channels[-1]
        )

    def _read(self, box: Box) -> tuple[Tensor, Tensor | None]:
        whole = Box((*self._index, *box.starts), (*[1] * len(self._index), *box.sizes))
        x, valid = self._values.read(whole)
        x = x[:, self._channels.start : self._channels.stop].reshape(1, -1, *box.sizes)
        return x, None if valid is None else valid.reshape(box.sizes)


@dataclass(frozen=True, eq=False)
class Values:
    """Values of a scene as a network's range takes them, and the way back."""

    scene: Scene
    white: float
    """The file's value that becomes 1."""

    def read(self, box: Box) -> tuple[Tensor, Tensor | None]:
        """Return [1 c *sizes] and where they are data, [*sizes] or None."""
        block = self.scene.block(box)
        x = torch.from_numpy(values_of(block.stored, self.scene.grid))[None]
        x = x if self.white == 1 else x / self.white
        return x, None if block.valid is None else torch.from_numpy(block.valid)

    @cached_property
    def statistics(self) -> tuple[Statistics, ...]:
        """Of the whole scene, holes left out: of every channel for itself, and of all."""
        found = Statistics()
        for box in blocks_of(self.scene):
            try:
                x, valid = self.read(box)
            except ImageFileError:
                if not has_planes(self.scene):
                    raise
                continue  # the pass that reads it says what is wrong
            found.add(x, None if valid is None else valid[None, None])
        single = []
        for channel in found.channels:
            one = Statistics()
            one.channels = (channel,)
            single.append(one)
        return (*single, found)


class Shape:
    """A readable of which nothing but the shape is asked."""

    def __init__(self, sizes: Sequence[int], channels: int):
        self.sizes_px, self.strides = tuple(sizes), (1,) * len(sizes)
        self.images, self.channels = 1, channels

    def crop(self, box: Box) -> Tensor:
        """Return zeros."""
        return torch.zeros(1, self.channels, *box.sizes)

    def statistics(self) -> Statistics:
        """Return those of nothing."""
        return Statistics()


def has_planes(scene: Scene) -> bool:
    """Tell whether a scene has several planes: the others can be restored where one is damaged."""
    return prod(scene.grid.sizes[:-2]) > 1


def blocks_of(scene: Scene) -> Iterator[Box]:
    """Yield boxes that together cover a scene."""
    *outer, height, width = scene.grid.sizes
    rows = max(1, READ_VALUES // max(1, width * scene.channels))
    for index in np.ndindex(*outer):
        for top in range(0, height, rows):
            yield Box((*index, top, 0), (*[1] * len(outer), min(rows, height - top), width))
