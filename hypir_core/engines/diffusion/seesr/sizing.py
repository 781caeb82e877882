"""How a picture lies on SeeSR's canvas: small ones are processed enlarged."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ....image.resize import resize
from ....request import Request
from ....tiling.geometry import Plane
from ....tiling.plan import TileWish
from ..sizing import Placed, Tiling, canvas_for, mirror_to

LONG_SIDES = 2
"""A thin picture is enlarged until its long side is at most this many times the size to process at."""


@dataclass(frozen=True, kw_only=True)
class SeesrSizing:
    """Enlarge until the short side has `process_px`, then mirror at the far edges up to the canvas."""

    process_px: int
    native_px: int = 512
    """Canvas sides are at least this long."""

    def place(
        self, image_01: Tensor, size_px: tuple[int, ...], request: Request, *, default_scale: float
    ) -> Placed:
        """Resize and mirror."""
        del request, default_scale
        factor = max(1.0, min(self.process_px / min(size_px), LONG_SIDES * self.process_px / max(size_px)))
        wanted_px = tuple(max(1, round(side * factor)) for side in size_px)
        content_px, canvas_px = canvas_for(wanted_px, native_px=self.native_px)
        content = resize(image_01, content_px).clamp(0, 1)
        notes = ()
        if content_px != tuple(size_px):
            h, w = content_px
            notes = (f"processed at {w}×{h} px, then brought to its size",)
        return Placed(plane=Plane(mirror_to(content, canvas_px)), content_px=content_px, notes=notes)

    def tiling(self, sizes_px: tuple[int, ...], wish: TileWish) -> Tiling:
        """Leave the tiles to the tiler."""
        del wish
        return Tiling(sizes_px=sizes_px)
