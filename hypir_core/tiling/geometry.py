"""Boxes and planes: geometry in output pixels, over any number of spatial axes.

A picture has two axes (rows, columns), a volume three (slices, rows, columns). Every size, start and stride is a tuple
with one entry per axis, the slowest axis first. What is called a pixel of the result is a voxel where there are three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from typing import Protocol

from torch import Tensor

from ..errors import ShapeError

PerAxis = int | tuple[int, ...]
"""One number for every axis, or one for each."""


def per_axis(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """Return one number for each of `axes` axes.

    Raises:
        ShapeError: there are numbers for another count of axes.
    """
    if isinstance(value, int):
        return (value,) * axes
    if len(value) != axes:
        raise ShapeError(f"expected one number, or one for each of {axes} axes, got {tuple(value)}")
    return tuple(value)


@dataclass(frozen=True, slots=True)
class Box:
    """A block of the canvas, in output pixels: [start, start + size) along every axis."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def ends(self) -> tuple[int, ...]:
        """Where it ends along every axis, exclusive."""
        return tuple(start + size for start, size in zip(self.starts, self.sizes, strict=True))


class Readable(Protocol):
    """What tiles are cut from: a `Plane` in memory, or what is read from a file when it is asked for."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Output pixels that one cell covers, along every axis."""
        ...

    @property
    def sizes_px(self) -> tuple[int, ...]:
        """Size of the canvas, in output pixels."""
        ...

    @property
    def images(self) -> int:
        """How many images lie on each other."""
        ...

    @property
    def channels(self) -> int:
        """Channels of each image."""
        ...

    def crop(self, box: Box) -> Tensor:
        """Return the cells under `box`, [b c *cells]."""
        ...


class Plane:
    """A tensor that knows how many output pixels one of its cells covers.

    Pixels have stride 1, SD latents 8, the input of a ×4 generator 4; one number stands for all axes. A volume that
    is enlarged within its slices only has strides (1, 4, 4).
    """

    __slots__ = ("data", "strides")

    def __init__(self, data: Tensor, strides: PerAxis = 1):
        self.data = data
        """[b c *spatial]."""
        self.strides: tuple[int, ...] = per_axis(strides, data.ndim - 2)

    @property
    def sizes_px(self) -> tuple[int, ...]:
        """Size of the canvas that this plane covers, in output pixels."""
        return tuple(map(mul, self.data.shape[2:], self.strides))

    @property
    def axes(self) -> int:
        """How many spatial axes there are."""
        return self.data.ndim - 2

    @property
    def images(self) -> int:
        """How many images lie on each other."""
        return self.data.shape[0]

    @property
    def channels(self) -> int:
        """Channels of each image."""
        return self.data.shape[1]

    def crop(self, box: Box) -> Tensor:
        """Return the cells under `box`, as a view [b c *cells].

        Raises:
            ShapeError: a corner of the box lies between two cells, or outside the plane.
        """
        return self.data[(..., *cells_of(box, self))]

    def of_images(self, images: slice) -> Plane:
        """Return some of the images, as a view; a single image stands for all and is returned as it is."""
        return self if self.images == 1 else Plane(self.data[images], self.strides)


class Everywhere(Plane):
    """Numbers that hold for the whole canvas: [b c 1 …], which every crop is. A latent vector as a guide, for one."""

    __slots__ = ()

    def crop(self, box: Box) -> Tensor:
        """Return all of it, whatever the box."""
        del box
        return self.data

    def of_images(self, images: slice) -> Everywhere:
        """Return some of the images; a single image stands for all."""
        return self if self.images == 1 else Everywhere(self.data[images], self.strides)


def cells_of(box: Box, plane: Readable) -> tuple[slice, ...]:
    """Return the slices of the cells of `plane` under `box`.

    Raises:
        ShapeError: a corner of the box lies between two cells, or outside the plane.
    """
    strides, sizes = plane.strides, plane.sizes_px
    if len(box.starts) != len(sizes):
        raise ShapeError(f"box {box} has {len(box.starts)} axes, the canvas has {len(sizes)}")
    if any(start % s or size % s for start, size, s in zip(box.starts, box.sizes, strides, strict=True)):
        raise ShapeError(f"box {box} does not lie on the grid of {by(strides)} px cells")
    if min(box.starts) < 0 or any(end > size for end, size in zip(box.ends, sizes, strict=True)):
        raise ShapeError(f"box {box} leaves the canvas of {by(sizes)} px")
    return tuple(
        slice(start // s, end // s) for start, end, s in zip(box.starts, box.ends, strides, strict=True)
    )


def by(numbers: Sequence[int]) -> str:
    """Return sizes as people write them: ``512×768``."""
    return "×".join(map(str, numbers))
