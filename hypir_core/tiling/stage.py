"""What a stage is: a function from tile to tile, and everything the tiler must know to run it over a canvas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .geometry import PerAxis, Plane
from .plan import TileConfig, TilePlan
from .sample import Sampling
from .window import AxisWeights

TileFunction = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
"""(tile, guides cropped alike) → tile."""

CanvasFunction = Callable[[Plane, Plane], Plane]
"""(input of the stage, its blended output) → what the next stage gets; once, on the whole canvas."""

Guide = Plane | Callable[[], Plane]
"""A plane that is cropped with the tile, or a function that makes it when its stage begins."""


def place_nothing(_device: torch.device) -> None:
    """Move nothing: for stages without weights."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Which tiles of a stage are taken for wrong, besides those that are not finite."""

    flat: bool = True
    """A tile that came out nearly constant although its input is not."""
    idle: bool = False
    """A tile that changed far less than its neighbours; input and output must have one shape."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A function from tile to tile: the unit of tiling, batching, progress and timing."""

    name: str
    """``encode``, ``step 1/4``, ``decode``: shown as progress label and in the report."""
    work: str = ""
    """Kind of work: ``encode``, ``step``, ``decode``, ``restore``. Stages of one kind share what is known of their speed
    and memory. Empty takes the name."""
    share: float = 1.0
    """Its part of the run's work, in parts of the other stages', for the progress bar."""
    run: TileFunction
    """(tile [n c *cells], guides cropped alike) → [n out_channels *cells']; tile and guides come on the stage's device
    in the planes' format; any floating format may be returned. Gradients may be computed within it, under
    `torch.enable_grad`."""
    out_channels: int
    out_strides: PerAxis
    """Output pixels that a cell of the result covers."""
    grain_px: PerAxis
    """Tile sizes and starts are multiples of this, in output pixels."""
    bytes_per_px: float
    """Working memory per output pixel of a tile, measured; chooses the batch."""
    tile: TileConfig
    """The stage's own tiles; what a user wishes comes before."""
    place: Callable[[torch.device], None] = place_nothing
    """Bring the stage's weights to the device before its first tile."""
    guides: Mapping[str, Guide] = field(default_factory=dict)
    """Cropped with the tile: noise, a control picture, a mask. One of a single image serves all images."""
    margin_px: PerAxis = 0
    """Output pixels next to a neighbouring tile that are left out of the blend: the receptive radius of a
    network whose result there lacks its surroundings; at most half of the overlap is left out."""
    plan: TilePlan | None = None
    """Tiles laid by the engine itself, instead of any other; the memory ladder then leaves their size alone."""
    weights: tuple[AxisWeights, ...] | None = None
    """Blend weights along every axis; None makes them of the plan's window and the margin."""
    min_tile_px: PerAxis = 64
    """The memory ladder does not go below this."""
    repeat: TileFunction | None = None
    """`run` in float32, once more, for a tile that came out wrong (`bad_tiles`)."""
    sampling: Sampling | None = None
    """Looks at a sample of the picture first, where there is more than one tile, so that all are treated alike."""
    watch: Watch = field(default_factory=Watch)
    after: CanvasFunction | None = None
    """What happens between the last tile and the next stage, on the whole canvas, where tiles cannot be seen: a
    sampler's step, edits of the clean estimate. It may return another number of images or channels."""

    @property
    def kind(self) -> str:
        """Kind of work."""
        return self.work or self.name


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """How one stage went."""

    name: str
    tiles: str
    """The plan in words, with its redundancy."""
    redundancy: float
    batch: int
    """Tiles at a time."""
    images: int = 1
    """Images at a time, of each tile."""
    device: str
    seconds: float
    rungs: tuple[str, ...] = ()
    """What was given up because memory ran out, in order."""
    bad_tiles: tuple[str, ...] = ()
    """Which tiles came out wrong and what was done."""
