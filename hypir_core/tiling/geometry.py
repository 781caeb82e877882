"""Planes and boxes: geometry in output pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import ShapeError


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the canvas, in output pixels: rows [y, y+h), columns [x, x+w)."""

    y: int
    x: int
    h: int
    w: int


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """A tensor that knows how many output pixels one of its cells covers.

    Pixels have `stride_px` 1, SD latents 8, the input of a ×4 generator 4. Shape [b c h w].
    """

    data_bchw: Tensor
    stride_px: int = 1

    @property
    def height_px(self) -> int:
        """Height of the canvas this plane covers, in output pixels."""
        return self.data_bchw.shape[-2] * self.stride_px

    @property
    def width_px(self) -> int:
        """Width of the canvas this plane covers, in output pixels."""
        return self.data_bchw.shape[-1] * self.stride_px

    def crop(self, box: Box) -> Tensor:
        """Return the cells under `box`, as a view [b c box.h/stride box.w/stride].

        Raises:
            ShapeError: a corner of the box lies between two cells, or outside the plane.
        """
        rows, columns = self.cells(box)
        return self.data_bchw[..., rows, columns]

    def cells(self, box: Box) -> tuple[slice, slice]:
        """Return the row and column slices of the cells under `box`; raises as `crop` does."""
        s = self.stride_px
        if any(value % s for value in (box.y, box.x, box.h, box.w)):
            raise ShapeError(f"box {box} does not lie on the grid of {s} px cells")
        if box.y < 0 or box.x < 0 or box.y + box.h > self.height_px or box.x + box.w > self.width_px:
            raise ShapeError(f"box {box} leaves the canvas of {self.height_px}×{self.width_px} px")
        return slice(box.y // s, (box.y + box.h) // s), slice(box.x // s, (box.x + box.w) // s)
