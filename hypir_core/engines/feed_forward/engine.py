"""The feed-forward engine: one stage, one pass of a generator that enlarges by a whole factor along every axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn

from ...errors import ShapeError
from ...image.histogram import Statistics
from ...image.ranges import UNIT, Range, RangeConfig, fit
from ...request import Request
from ...tiling.geometry import Box, Readable
from ...tiling.plan import TileConfig
from ...tiling.readable import enlarged
from ...tiling.sample import POOLS
from ...tiling.stage import Stage
from ..base import EngineSpec, Prepared

UNKNOWN_RADIUS = 16
"""Input pixels of overlap that hide seams well in practice where the receptive field is not known."""

TILE_INPUT_PX = {1: 65536, 2: 256, 3: 64}
"""Side of a tile by the number of axes, in input pixels."""

LEAST_INPUT_PX = 16

BAND_VALUES = 1 << 22
"""Values that are read at a time to fit a range."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeedForward:
    """A generator [n c *cells] → [n c' *cells·scale], float32 on both sides."""

    spec: EngineSpec
    net: nn.Module
    scale: tuple[int, ...]
    """Factor along every axis."""
    radius: int
    """Input pixels that a result depends on to each side."""
    bytes_per_input_px: float
    """Working memory per input pixel of a tile."""
    multiple: int = 1
    """Input sides must divide by this."""
    least_px: int = 1
    """Input sides must be at least this long."""
    least_tile_px: int = 0
    """The engine's own tiles are at least so long, in input pixels; the network pads shorter ones itself."""
    value_range: Range = field(default=UNIT)
    """What the network calls black and white."""
    fitted_range: RangeConfig | None = None
    """In place of it, where the picture decides: it is fitted on the whole input before that is cut into tiles."""

    @property
    def tile(self) -> TileConfig:
        """The engine's own tiles at the full factor, in output pixels.

        The overlap is twice the receptive radius, so that every kept pixel was computed with all it depends on.
        """
        return self._tile(self.scale)

    def _tile(self, kept: Sequence[int]) -> TileConfig:
        side = max(TILE_INPUT_PX[self.spec.axes], 4 * self.radius, self.least_tile_px)
        tiles, overlaps = ([size * k for k in kept] for size in (side, 2 * self.radius))
        same = len(set(kept)) == 1
        return TileConfig(
            tile_px=tiles[0] if same else tuple(tiles), overlap_px=overlaps[0] if same else tuple(overlaps)
        )

    def prepare(self, image: Readable, size_px: tuple[int, ...], request: Request) -> Prepared:
        """Choose how much of the generator's enlargement is kept on the canvas, and pad the input.

        A ×4 generator asked for ×2 or ×1 shrinks its result inside the tile by averaging, so the canvas is
        never much larger than what is asked for; a scale in between is reached by resizing the next larger one.
        """
        del request
        sizes = image.sizes_px
        wanted = max(out / size for out, size in zip(size_px, sizes, strict=True))
        # A rounded side may ask for a hair more than the factor the user typed.
        kept = tuple(_kept(factor, wanted - 0.5 / max(sizes)) for factor in self.scale)
        padded = [max(size, self.least_px) for size in sizes]
        padded = [size + -size % self.multiple for size in padded]
        content = tuple(size * k for size, k in zip(sizes, kept, strict=True))
        plane = enlarged(image, kept, padded)
        if self.fitted_range is None:
            return Prepared(plane=plane, content_px=content)
        found = fit(self.fitted_range, statistics_of(image))
        return Prepared(plane=plane, content_px=content, condition=found, notes=found.notes)

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Return the one stage."""
        del request
        kept = prepared.plane.strides
        values = self.value_range if prepared.condition is None else prepared.condition
        shrink = tuple(factor // k for factor, k in zip(self.scale, kept, strict=True))
        axes, grain = len(kept), tuple(k * self.multiple for k in kept)

        def restore_tile(tile: Tensor, _guides: Mapping[str, Tensor]) -> Tensor:
            laid = tile.to(memory_format=torch.channels_last) if axes == 2 else tile
            out = values.undo(self.net(values.apply(laid)))
            return POOLS[axes](out, shrink) if max(shrink) > 1 else out

        def place(device: torch.device) -> None:
            self.net.to(device)

        least = max(LEAST_INPUT_PX, -(-self.least_px // self.multiple)) * self.multiple
        area = 1
        for k in kept:
            area *= k
        return (
            Stage(
                name="restore",
                run=restore_tile,
                out_channels=self.spec.out_channels,
                out_strides=1,
                grain_px=grain,
                bytes_per_px=self.bytes_per_input_px / area,
                place=place,
                margin_px=tuple(self.radius * k for k in kept),
                tile=self._tile(kept),
                min_tile_px=tuple(least * k for k in kept),
            ),
        )


def statistics_of(image: Readable) -> Statistics:
    """Return the statistics of a picture at stride 1, read in bands along its first axis.

    Raises:
        ShapeError: there are several images; each would need a range of its own.
    """
    if image.images != 1:
        raise ShapeError(f"the range is fitted on one picture, got {image.images} at once; give one by one")
    length, *others = image.sizes_px
    rows = max(1, BAND_VALUES // max(1, image.channels * prod(others)))
    found = Statistics()
    for start in range(0, length, rows):
        size = min(rows, length - start)
        found.add(image.crop(Box((start, *[0] * len(others)), (size, *others))))
    return found


def _kept(factor: int, wanted: float) -> int:
    """Return the smallest divisor of a factor that is at least what is wanted, or the factor."""
    return next((k for k in range(1, factor + 1) if factor % k == 0 and k >= wanted), factor)
