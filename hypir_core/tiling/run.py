"""Run one stage tile by tile and blend: the only tiler."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import torch
from torch import Tensor

from ..device import release_cached_memory
from ..errors import Cancelled, OutOfMemoryError
from ..progress import Tick
from ..runtime import Runtime
from .bad_tiles import Repeat, TileWatch, change
from .choose import choose_tiles
from .geometry import Box, Plane
from .memory import Rung, is_out_of_memory, next_rung
from .plan import TileConfig, TilePlan, plan_tiles
from .sample import Survey, crop_grid, take_sample
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
    repeat: TileFunction | None = None
    """`run` in float32, once more, for a tile that came out wrong (`bad_tiles`)."""
    survey: Survey | None = None
    """Looks at a sample of the picture first, where there is more than one tile, so that all are treated alike."""
    compare: bool = False
    """Whether a tile that changes far less than its neighbours is wrong; input and output have one shape."""


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
    bad_tiles: tuple[str, ...] = ()
    """Which tiles came out wrong and what was done."""


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
        RangeError: a tile has NaN or infinity, in float32 too.
    """
    started = time.perf_counter()
    rungs: list[str] = []
    canvas_px = (plane.height_px, plane.width_px)
    rung = Rung(stage.tile or tile, 0, runtime.device)
    while True:
        try:
            stage.place(rung.device)
            if rung.batch == 0:  # what is free is known when the weights are there
                chosen = choose_tiles(stage, canvas_px, tile=tile, runtime=runtime, device=rung.device)
                rung = Rung(chosen.tile, chosen.batch, rung.device)
            plan = stage.plan or plan_tiles(*canvas_px, rung.tile, grain_px=stage.grain_px)
            watch = TileWatch(stage.name)
            with _surveyed(stage, plane, plan, rung.device, tidy=runtime.tidy):
                out = _run_plan(stage, plane, plan, rung=rung, runtime=runtime, watch=watch)
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
        bad_tiles=tuple(watch.notes),
    )
    return out, report


@torch.no_grad()
def _run_plan(
    stage: Stage, plane: Plane, plan: TilePlan, *, rung: Rung, runtime: Runtime, watch: TileWatch
) -> Plane:
    s = stage.out_stride_px
    images = plane.data_bchw.shape[0]
    out = torch.zeros(
        images, stage.out_channels, plan.height_px // s, plan.width_px // s, device=runtime.canvas_device
    )
    canvas = Plane(out, s)
    weights = _blend_weights(stage, plan, out.shape[-2:])
    boxes = plan.boxes
    changes: list[float] = []
    kept: list[Tensor] = []  # of a stage that compares: a tile is judged when its neighbours are there
    for first in range(0, len(boxes), rung.batch):
        if runtime.cancelled():
            raise Cancelled(f"stopped in stage {stage.name!r} after {first} of {len(boxes)} tiles")
        batch = boxes[first : first + rung.batch]
        inputs, guides = tile_inputs(stage, plane, batch, rung.device)
        with torch.inference_mode():  # the canvas itself stays an ordinary tensor, for the caller to work on
            tiles = stage.run(inputs, guides)
            tiles = watch.mended(tiles, inputs, batch, _repeater(stage, inputs, guides))
        for i, (box, tile) in enumerate(zip(batch, tiles.split(images), strict=True)):
            _blend(canvas, box, tile, weights[first + i])
            if stage.compare:
                changes.append(change(inputs[i * images : (i + 1) * images], tile))
                kept.append(tile.to(out.device))
        runtime.progress(Tick(stage.name, first + len(batch), len(boxes), out))
    for i in watch.idle(changes, len(plan.columns)):
        moved = None
        if stage.repeat is not None:
            inputs, guides = tile_inputs(stage, plane, boxes[i : i + 1], rung.device)
            with torch.inference_mode():
                again = stage.repeat(inputs, guides).to(out.device)
            moved = change(inputs, again) > 2 * changes[i]
            _blend(canvas, boxes[i], again.float() - kept[i].float(), weights[i])
        watch.report_idle(boxes[i], moved=moved)
    return canvas


@contextmanager
def _surveyed(
    stage: Stage, plane: Plane, plan: TilePlan, device: torch.device, *, tidy: Callable[[], None]
) -> Iterator[None]:
    """Let the stage look at a sample of the plane, if it wants to and there is more than one tile."""
    if stage.survey is None or len(plan.boxes) == 1:
        yield
        return
    sample = take_sample(plane, crop_grid(plan, stage.survey.size))
    with torch.inference_mode():
        crops, guides = tile_inputs(stage, plane, sample.boxes, device)
        seen = stage.survey.look(crops, guides, sample)
    tidy()
    with seen:
        yield
    tidy()


def _blend_weights(stage: Stage, plan: TilePlan, size: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Return the weights along rows and columns of every tile, for a canvas of `size` cells."""
    s = stage.out_stride_px
    windowed = partial(axis_weights, window=plan.window, margin=stage.margin_px // s)
    rows, columns = (
        weigh([(start // s, length // s) for start, length in spans], total)
        for weigh, spans, total in zip(
            stage.weights or (windowed, windowed), (plan.rows, plan.columns), size, strict=True
        )
    )
    return list(product(rows, columns))


def _blend(canvas: Plane, box: Box, tile: Tensor, weights: tuple[Tensor, Tensor]) -> None:
    rows, columns = weights
    weighted = tile.float() * rows.to(tile.device)[:, None] * columns.to(tile.device)
    canvas.crop(box).add_(weighted.to(canvas.data_bchw.device))


def tile_inputs(
    stage: Stage, plane: Plane, boxes: Sequence[Box], device: torch.device
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what `stage.run` gets for these boxes: [boxes · images c h w], and the guides cropped alike."""
    guides = {name: _gather(guide, boxes, device) for name, guide in stage.guides.items()}
    return _gather(plane, boxes, device), guides


def _repeater(stage: Stage, inputs: Tensor, guides: Mapping[str, Tensor]) -> Repeat | None:
    """Return how to make tiles of a batch again, or None."""
    repeat = stage.repeat
    if repeat is None:
        return None
    return lambda which: repeat(inputs[which], {name: guide[which] for name, guide in guides.items()})


def _gather(plane: Plane, boxes: Sequence[Box], device: torch.device) -> Tensor:
    return torch.cat([plane.crop(box).to(device) for box in boxes])
