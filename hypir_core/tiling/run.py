"""Run one stage tile by tile and blend: the only tiler."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from ..device import Runtime, free_memory_bytes, release_cached_memory
from ..errors import Cancelled, OutOfMemoryError
from ..image.plane import Box, Plane
from ..progress import Tick
from .memory import Rung, batch_that_fits, is_out_of_memory, next_rung
from .plan import TileConfig, TilePlan, plan_tiles
from .window import AxisWeights, axis_weights

TileFunction = Callable[[Tensor, Mapping[str, Tensor]], Tensor]


def place_nothing(_device: torch.device) -> None:
    """Move nothing: for stages without weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A function from tile to tile: the unit of tiling, batching, progress and timing."""

    name: str
    """``encode``, ``step 1/4``, ``decode``: shown as progress label and in the report."""
    run: TileFunction
    """(tile [n c h/s w/s], guides cropped alike) → [n out_channels h/s' w/s']; tile and guides come on the
    stage's device in the planes' format; any floating format may be returned."""
    out_channels: int
    out_stride_px: int
    grain_px: int
    """Tile sizes and starts are multiples of this, in output pixels."""
    bytes_per_px: float
    """Working memory per output pixel of a tile, measured; chooses the batch."""
    place: Callable[[torch.device], None] = place_nothing
    """Bring the stage's weights to the device before its first tile."""
    guides: Mapping[str, Plane] = field(default_factory=dict)
    """Planes cropped with the tile: noise, a ControlNet's picture, a mask."""
    margin_px: int = 0
    """Output pixels next to a neighbouring tile that are left out of the blend: the receptive radius of a
    network whose result there lacks its surroundings; at most half of the overlap is left out."""
    tile: TileConfig | None = None
    """This stage's own tiles; None takes the request's."""
    plan: TilePlan | None = None
    """Tiles laid by the engine itself, instead of any other; the ladder then leaves their size alone."""
    weights: tuple[AxisWeights, AxisWeights] | None = None
    """Blend weights along rows and columns; None makes them of the plan's window and the margin."""
    min_tile_px: int = 64
    """The ladder does not go below this."""


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """How one stage went."""

    name: str
    tiles: str
    """The plan in words, with its redundancy."""
    redundancy: float
    batch: int
    device: str
    seconds: float
    rungs: tuple[str, ...] = ()
    """What was given up because memory ran out, in order."""


def run_stage(stage: Stage, plane: Plane, *, tile: TileConfig, runtime: Runtime) -> tuple[Plane, StageReport]:
    """Run `stage` over the whole plane.

    Args:
        stage: what to do with a tile.
        plane: input [b c h/s w/s]; its canvas is a multiple of the stage's grain.
        tile: the tiles to use unless the stage has its own.
        runtime: device, batch, memory, progress and cancellation.

    Returns:
        The output plane [b out_channels h/s' w/s'], float32, on the runtime's canvas device, and how it went.

    Raises:
        OutOfMemoryError: memory ran out on the last rung of the ladder.
        Cancelled: the runtime's `cancelled` answered yes.
    """
    started = time.perf_counter()
    rungs: list[str] = []
    rung = Rung(stage.tile or tile, 0, runtime.device)
    while True:
        plan = stage.plan or plan_tiles(plane.height_px, plane.width_px, rung.tile, grain_px=stage.grain_px)
        try:
            stage.place(rung.device)
            if rung.batch == 0:  # what is free is known when the weights are there
                rung = replace(rung, batch=_batch(stage, plan, runtime, rung.device))
            out = _run_plan(stage, plane, plan, rung=rung, runtime=runtime)
            break
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
            reason = str(err).splitlines()[0]
        # Outside the except block: there the traceback would keep the failed tile's tensors alive.
        release_cached_memory(rung.device)
        smallest = rung.tile.tile_px if stage.plan else stage.min_tile_px
        lower = next_rung(rung, grain_px=stage.grain_px, min_tile_px=smallest)
        if lower is None:
            raise OutOfMemoryError(
                f"{stage.name}: out of memory with one {rung.tile.tile_px} px tile on {rung.device} ({reason}); "
                "close other programs, choose a smaller --scale, or another engine"
            )
        rung, said = lower
        rungs.append(said)
    report = StageReport(
        name=stage.name,
        tiles=plan.summary(),
        redundancy=plan.redundancy,
        batch=rung.batch,
        device=str(rung.device),
        seconds=time.perf_counter() - started,
        rungs=tuple(rungs),
    )
    return out, report


def _batch(stage: Stage, plan: TilePlan, runtime: Runtime, device: torch.device) -> int:
    tiles = len(plan.boxes)
    if runtime.batch_tiles is not None:
        return min(runtime.batch_tiles, tiles)
    budget = free_memory_bytes(device) if runtime.memory_budget_bytes is None else runtime.memory_budget_bytes
    area = plan.rows[0][1] * plan.columns[0][1]
    return min(batch_that_fits(area, stage.bytes_per_px, budget), tiles)


@torch.no_grad()
def _run_plan(stage: Stage, plane: Plane, plan: TilePlan, *, rung: Rung, runtime: Runtime) -> Plane:
    s = stage.out_stride_px
    images = plane.data_bchw.shape[0]
    out = torch.zeros(
        images, stage.out_channels, plan.height_px // s, plan.width_px // s, device=runtime.canvas_device
    )
    canvas = Plane(out, s)
    windowed = partial(axis_weights, window=plan.window, margin=stage.margin_px // s)
    row_weights, column_weights = (
        weigh([(start // s, length // s) for start, length in spans], total)
        for weigh, spans, total in zip(
            stage.weights or (windowed, windowed),
            (plan.rows, plan.columns),
            out.shape[-2:],
            strict=True,
        )
    )
    weights = list(product(row_weights, column_weights))
    boxes = plan.boxes
    for first in range(0, len(boxes), rung.batch):
        if runtime.cancelled():
            raise Cancelled(f"stopped in stage {stage.name!r} after {first} of {len(boxes)} tiles")
        batch = boxes[first : first + rung.batch]
        with torch.inference_mode():  # the canvas itself stays an ordinary tensor, for the caller to work on
            tiles = stage.run(
                _gather(plane, batch, rung.device),
                {name: _gather(guide, batch, rung.device) for name, guide in stage.guides.items()},
            )
        for box, (rows, columns), tile in zip(
            batch, weights[first : first + rung.batch], tiles.split(images), strict=True
        ):
            weighted = tile.float() * rows.to(tile.device)[:, None] * columns.to(tile.device)
            canvas.crop(box).add_(weighted.to(out.device))
        runtime.progress(Tick(stage.name, first + len(batch), len(boxes), out))
    return canvas


def _gather(plane: Plane, boxes: Sequence[Box], device: torch.device) -> Tensor:
    return torch.cat([plane.crop(box).to(device) for box in boxes])
