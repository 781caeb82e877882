"""How a picture lies on the canvas of a diffusion model, by the rules of this project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ...image.resize import resize
from ...request import Request
from ...tiling.geometry import PerAxis, Plane
from ...tiling.plan import TilePlan, TileWish, whole_plan
from ...tiling.window import AxisWeights
from ..base import Finish

ENLARGE_BELOW = 0.75
"""Pictures whose longer side is under this part of the native size are enlarged, others only mirrored."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How an engine lays tiles itself; by default it leaves that to the tiler."""

    sizes_px: tuple[int, ...] = ()
    """Of the canvas."""
    plan: TilePlan | None = None
    weights: tuple[AxisWeights, ...] | None = None
    grain_px: int | None = None

    def of(self, grain_px: PerAxis, *, margin_px: PerAxis = 0, whole: bool = False) -> dict[str, Any]:
        """Return the fields of a `Stage` that say where its tiles lie; with `whole` it gets one."""
        fields: dict[str, Any] = {"grain_px": self.grain_px or grain_px, "margin_px": margin_px}
        if whole:
            return fields | {"plan": whole_plan(self.sizes_px)}
        if self.plan is None:
            return fields
        return fields | {"plan": self.plan, "weights": self.weights, "margin_px": 0}


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A picture on the canvas."""

    plane: Plane
    content_px: tuple[int, ...]
    reference_01: Tensor | None = None
    finish: Finish | None = None
    last: Callable[[Tensor], Tensor] | None = None
    notes: tuple[str, ...] = ()


class Sizing(Protocol):
    """Rules of size: how a picture comes onto the canvas, and where tiles lie if that is not left to the tiler."""

    def place(
        self, image_01: Tensor, size_px: tuple[int, ...], request: Request, *, default_scale: float
    ) -> Placed:
        """Bring a picture [b c h w] in [0,1] onto the canvas of a result of `size_px`."""
        ...

    def tiling(self, sizes_px: tuple[int, ...], wish: TileWish) -> Tiling:
        """Return how the tiles of a canvas of `sizes_px` lie."""
        ...


@dataclass(frozen=True, kw_only=True)
class HouseSizing:
    """Resize, then mirror at the far edges up to the canvas.

    A thin picture is mirrored in its short direction, never enlarged for it: its long side keeps its size. Only a
    picture that is small both ways is enlarged, until its longer side has the native size.
    """

    native_px: int = 512
    """Canvas sides are at least this long: the UNet knows nothing smaller."""
    grain_px: int = 64
    """Canvas sides are multiples of this."""

    def place(
        self, image_01: Tensor, size_px: tuple[int, ...], request: Request, *, default_scale: float
    ) -> Placed:
        """Resize and mirror."""
        del request, default_scale
        content_px, canvas_px = canvas_for(size_px, native_px=self.native_px, grain_px=self.grain_px)
        content = resize(image_01, content_px).clamp(0, 1)
        notes = ()
        if content_px != tuple(size_px):
            h, w = content_px
            notes = (f"processed at {w}×{h} px: the model knows no smaller pictures",)
        return Placed(plane=Plane(mirror_to(content, canvas_px)), content_px=content_px, notes=notes)

    def tiling(self, sizes_px: tuple[int, ...], wish: TileWish) -> Tiling:
        """Leave the tiles to the tiler."""
        del wish
        return Tiling(sizes_px=sizes_px)


def canvas_for(
    size_px: Sequence[int], *, native_px: int, grain_px: int = 64
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the size of the content and of the canvas for a result of `size_px`, both (height, width).

    The canvas is at most `native_px` in a direction where the content is smaller, and less than one grain
    more than the content in the others.
    """
    longer = max(size_px)
    factor = native_px / longer if longer < ENLARGE_BELOW * native_px else 1.0
    h, w = (max(1, round(side * factor)) for side in size_px)
    canvas_h, canvas_w = (-(-max(side, native_px) // grain_px) * grain_px for side in (h, w))
    return (h, w), (canvas_h, canvas_w)


def mirror_to(image_bchw: Tensor, size_px: Sequence[int]) -> Tensor:
    """Continue a picture to the right and below by mirroring it, [b c h w] → [b c *size_px].

    Convention: the edge line is not repeated ("reflect"); a picture of one line is repeated.
    """
    for dim, size in zip((-2, -1), size_px, strict=True):
        length = image_bchw.shape[dim]
        if size != length:
            there_and_back = [*range(length), *range(length - 2, 0, -1)]
            index = torch.tensor([there_and_back[i % len(there_and_back)] for i in range(size)])
            image_bchw = image_bchw.index_select(dim, index.to(image_bchw.device))
    return image_bchw
