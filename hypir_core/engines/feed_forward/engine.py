"""The feed-forward engine: one stage, one pass of a generator that enlarges by a whole factor along every axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...image.ranges import RangeConfig
from ...request import Request
from ...residency import send_home
from ...tiling.geometry import Readable
from ...tiling.plan import TileConfig
from ...tiling.readable import enlarged
from ...tiling.sample import POOLS
from ...tiling.stage import Stage
from ..base import EngineSpec, Prepared
from .drawing import LATENT, Drawing
from .padding import padded_sizes
from .pooling import pooled_alike
from .ranges import Ranges, ranges_of, undone

UNKNOWN_RADIUS = 16
"""Input pixels of overlap that hide seams well in practice where the receptive field is not known."""

TILE_INPUT_PX = {1: 65536, 2: 256, 3: 64}
"""Side of a tile by the number of axes, in input pixels."""

LEAST_INPUT_PX = 16


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
    tile_input_px: int | None = None
    """Side of the engine's own tiles, in input pixels; None: as `TILE_INPUT_PX`."""
    least_tile_px: int = 0
    """The engine's own tiles are at least so long, in input pixels; the network pads shorter ones itself."""
    value_range: RangeConfig = field(default_factory=RangeConfig)
    """What the network calls black and white; where the picture decides, it is fitted on the whole input before that
    is cut into tiles."""
    out_range: RangeConfig | None = None
    """The same for its results; None: those of the input."""
    place: Callable[[torch.device], None] | None = None
    """Brings the network to a device where that is somebody else's to do; None moves it."""
    drawing: Drawing | None = None
    """Of a network that takes a latent: what is drawn and what becomes of it."""
    pools: tuple[nn.Module, ...] = ()
    """Layers of the network that take means over all they are given: these are then alike for all tiles."""
    takes_kept: bool = False
    """The network gives the means over blocks of its result itself, if it is called with the smaller factors too; of
    another the whole result is made and averaged."""

    @property
    def tile(self) -> TileConfig:
        """The engine's own tiles at the full factor, in output pixels; they overlap by twice the receptive radius."""
        return self._tile(self.scale)

    @property
    def _side(self) -> int:
        own = self.tile_input_px or TILE_INPUT_PX[self.spec.axes]
        return max(own, 4 * self.radius, self.least_tile_px)

    def _tile(self, kept: Sequence[int]) -> TileConfig:
        tiles, overlaps = ([size * k for k in kept] for size in (self._side, 2 * self.radius))
        same = len(set(kept)) == 1
        return TileConfig(
            tile_px=tiles[0] if same else tuple(tiles), overlap_px=overlaps[0] if same else tuple(overlaps)
        )

    def prepare(self, image: Readable, size_px: tuple[int, ...], request: Request) -> Prepared:
        """Choose how much of the generator's enlargement is kept on the canvas, and pad the input.

        A ×4 generator asked for ×2 or ×1 gives the means of its result inside the tile, so the canvas is
        never much larger than what is asked for; a scale in between is reached by resizing the next larger one.
        """
        del request
        sizes = image.sizes_px
        wanted = max(out / size for out, size in zip(size_px, sizes, strict=True))
        # A rounded side may ask for a hair more than the factor the user typed.
        kept = tuple(_kept(factor, wanted - 0.5 / max(sizes)) for factor in self.scale)
        padded, thin = padded_sizes(sizes, self.least_px, self.multiple)
        content = tuple(size * k for size, k in zip(sizes, kept, strict=True))
        plane = enlarged(image, kept, padded)
        found, notes = ranges_of(image, self.value_range, self.out_range)
        return Prepared(plane=plane, content_px=content, condition=found, notes=(*thin, *notes))

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Return the one stage."""
        kept = prepared.plane.strides
        values: Ranges = prepared.condition
        shrink = tuple(factor // k for factor, k in zip(self.scale, kept, strict=True))
        axes, grain = len(kept), tuple(k * self.multiple for k in kept)

        drawing = self.drawing

        def restore_tile(tile: Tensor, guides: Mapping[str, Tensor]) -> Tensor:
            laid = values.taken.apply(tile.to(memory_format=torch.channels_last) if axes == 2 else tile)

            def make(*latent: Tensor) -> Tensor:
                if max(shrink) > 1 and self.takes_kept:
                    return undone(values.given, self.net(laid, *latent, kept=kept), laid)
                out = undone(values.given, self.net(laid, *latent), laid)
                return POOLS[axes](out, shrink) if max(shrink) > 1 else out

            return make() if drawing is None else drawing.run(make, guides[LATENT])

        def move(device: torch.device) -> None:
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
                place=self.place or move,
                guides={} if drawing is None else {LATENT: drawing.guide(request.seed, axes)},
                sampling=pooled_alike(self.pools, restore_tile, axes, kept=max(kept), tile_side=self._side),
                margin_px=tuple(self.radius * k for k in kept),
                tile=self._tile(kept),
                min_tile_px=tuple(least * k for k in kept),
            ),
        )

    def leave(self) -> None:
        """Send the network home, unless moving it is somebody else's to do; see `engines.leaving`."""
        if self.place is None:
            send_home(self.net)


def _kept(factor: int, wanted: float) -> int:
    """Return the smallest divisor of a factor that is at least what is wanted, or the factor."""
    return next((k for k in range(1, factor + 1) if factor % k == 0 and k >= wanted), factor)
