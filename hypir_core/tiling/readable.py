"""A picture that is read where it is asked for, seen as the input of a network that enlarges it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .geometry import Box, Plane, Readable, cells_of


class Enlarged:
    """A readable at stride 1 as the input of a stage whose result is larger by `strides`, padded at its far edges.

    Padding repeats the last cell.
    """

    def __init__(self, source: Readable, strides: Sequence[int], sizes: Sequence[int]):
        """`sizes` are the cells along every axis, padding included."""
        self._source = source
        self.strides = tuple(strides)
        self.sizes_px = tuple(size * stride for size, stride in zip(sizes, strides, strict=True))

    @property
    def images(self) -> int:
        """How many images lie on each other."""
        return self._source.images

    @property
    def channels(self) -> int:
        """Channels of each image."""
        return self._source.channels

    def crop(self, box: Box) -> Tensor:
        """Return the cells under `box`, [b c *cells]."""
        cells = cells_of(box, self)
        inside, padding = [], []
        for span, size in zip(cells, self._source.sizes_px, strict=True):
            start, end = min(span.start, size - 1), max(min(span.stop, size), min(span.start, size - 1) + 1)
            inside.append((start, end))
            padding.append(span.stop - span.start - (end - start))
        box = Box(tuple(start for start, _ in inside), tuple(end - start for start, end in inside))
        return pad_far_edges(self._source.crop(box), padding)


def enlarged(source: Readable, strides: Sequence[int], sizes: Sequence[int]) -> Readable:
    """Return `source` (at stride 1), padded up to `sizes` cells, as the input of a stage; in memory if it is there."""
    if not isinstance(source, Plane):
        return Enlarged(source, strides, sizes)
    padding = [size - length for size, length in zip(sizes, source.sizes_px, strict=True)]
    return Plane(pad_far_edges(source.data, padding), tuple(strides))


def pad_far_edges(x: Tensor, padding: Sequence[int]) -> Tensor:
    """Repeat the last cell of every axis of [b c *cells] as often as `padding` says."""
    if not any(padding):
        return x
    if x.ndim <= 5 and all(pad <= 0 or size > 0 for pad, size in zip(padding, x.shape[2:], strict=True)):
        both = [number for pad in reversed(padding) for number in (0, pad)]
        return F.pad(x, both, mode="replicate")
    for axis, pad in enumerate(padding, 2):
        if pad:
            last = x.narrow(axis, x.shape[axis] - 1, 1)
            x = torch.cat([x, last.expand(*x.shape[:axis], pad, *x.shape[axis + 1 :])], axis)
    return x
