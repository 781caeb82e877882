"""The feed-forward engine: one stage, one pass of a generator that enlarges by a whole factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...request import Request
from ...tiling.geometry import Plane
from ...tiling.plan import TileConfig
from ...tiling.run import Stage
from ..base import EngineSpec, Prepared

UNKNOWN_RADIUS = 16
"""Input pixels of overlap that hide seams well in practice where the receptive field is not known."""

TILE_INPUT_PX = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class FeedForward:
    """A generator [n c h w] → [n c h·scale w·scale], float32 in [0,1] on both sides."""

    spec: EngineSpec
    net: nn.Module
    scale: int
    radius: int
    """Input pixels that a result depends on to each side."""
    bytes_per_input_px: float
    """Working memory per input pixel of a tile."""
    multiple: int = 1
    """Input sides must divide by this."""

    def prepare(self, image_01: Tensor, size_px: tuple[int, int], request: Request) -> Prepared:
        """Choose how much of the generator's enlargement is kept on the canvas, and pad the input.

        A ×4 generator asked for ×2 or ×1 shrinks its result inside the tile by averaging, so the canvas is
        never much larger than what is asked for; a scale in between is reached by resizing the next larger one.
        """
        del request
        h, w = image_01.shape[-2:]
        wanted = max(size_px[0] / h, size_px[1] / w)
        divisors = [k for k in range(1, self.scale + 1) if self.scale % k == 0]
        # A rounded side may ask for a hair more than the factor the user typed.
        kept = next((k for k in divisors if k >= wanted - 0.5 / max(h, w)), self.scale)
        pad_h, pad_w = -h % self.multiple, -w % self.multiple
        padded = F.pad(image_01, (0, pad_w, 0, pad_h), mode="replicate") if pad_h or pad_w else image_01
        return Prepared(plane=Plane(padded, kept), content_px=(h * kept, w * kept))

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Return the one stage. Tiles are counted at the generator's own enlargement, whatever is kept of it."""
        kept = prepared.plane.stride_px
        shrink = self.scale // kept
        tile = None
        if request.tile_px is None and request.overlap_px is None:
            default = self.spec.tile
            tile = TileConfig(
                tile_px=default.tile_px // shrink,
                overlap_px=default.overlap_px // shrink,
                window=request.window or default.window,
            )

        def restore_tile(tile: Tensor, _guides: Mapping[str, Tensor]) -> Tensor:
            out = self.net(tile.to(memory_format=torch.channels_last))
            return F.avg_pool2d(out, shrink) if shrink > 1 else out

        def place(device: torch.device) -> None:
            self.net.to(device)

        return (
            Stage(
                name="restore",
                run=restore_tile,
                out_channels=self.spec.channels,
                out_stride_px=1,
                grain_px=kept * self.multiple,
                bytes_per_px=self.bytes_per_input_px / kept**2,
                place=place,
                margin_px=self.radius * kept,
                tile=tile,
                min_tile_px=16 * kept * self.multiple,
            ),
        )


def default_tile(scale: int, radius: int) -> TileConfig:
    """Return a generator's default tiles, in output pixels.

    The overlap is twice the receptive radius, so that every kept pixel was computed with all it depends on.
    """
    return TileConfig(tile_px=max(TILE_INPUT_PX, 4 * radius) * scale, overlap_px=2 * radius * scale)


class CastInput(nn.Module):
    """Run a network of somebody else's in its own format, float32 on both sides."""

    def __init__(self, net: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.net = net.to(dtype)
        self.dtype = dtype

    def forward(self, image_01: Tensor) -> Tensor:
        """Cast, run, cast back."""
        return self.net(image_01.to(self.dtype)).float()
