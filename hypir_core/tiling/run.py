"""Run one stage tile by tile and blend: the only tiler."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..device import release_cached_memory
from ..errors import Cancelled, OutOfMemoryError, ShapeError
from ..progress import Tick
from ..runtime import Runtime
from .bad_tiles import Repeat, TileWatch, change
from .blending import blend_weights, weighted
from .canvas import Canvas, Emit, MemoryCanvas, StripCanvas
from .choose import Layout, laid, lay_tiles
from .geometry import Box, Plane, Readable, per_axis
from .inputs import made, tile_inputs
from .memory import Ladder, is_out_of_memory, next_rung
from .plan import TileWish
from .sample import take_sample
from .stage import Stage, StageReport
from .transfer import Returning, overlaps, returning


def run_stage(
    stage: Stage,
    source: Readable,
    *,
    wish: TileWish | None = None,
    runtime: Runtime,
    ladder: Ladder | None = None,
    emit: Emit | None = None,
    known_rows: int = 0,
) -> tuple[Plane, StageReport]:
    """Run `stage` over the whole canvas.

    Args:
        stage: what to do with a tile.
        source: input [b c *cells]; its canvas is a multiple of the stage's grain.
        wish: what the user says about tiles.
        runtime: device, batch, memory, progress and cancellation.
        ladder: what earlier stages of the run learnt about memory.
        emit: takes the result's rows, top to bottom, instead of a canvas in memory.
        known_rows: that an earlier run emitted with the same tiles; they are not made again.

    Returns:
        The output plane [b c *cells'], float32, on the runtime's canvas device (with `emit`, one without rows), and
        how it went.

    Raises:
        OutOfMemoryError: memory ran out on the last rung of the ladder.
        Cancelled: the runtime's `should_stop` answered yes.
        RangeError: a tile has NaN or infinity, in float32 too.
    """
    started = time.perf_counter()
    rungs: list[str] = []
    sizes_px, axes = source.sizes_px, len(source.sizes_px)
    ladder = ladder or Ladder()
    rung = ladder.learnt.get(stage.kind)
    device = runtime.device if rung is None else rung.device
    guides = made(stage.guides)
    layout = None
    while True:
        canvases: list[Canvas] = []
        try:
            stage.place(device)
            if rung is None:  # what is free is known when the weights are there
                layout = lay_tiles(
                    stage, sizes_px, images=source.images, wish=wish, runtime=runtime, device=device
                )
            else:
                layout = laid(stage, sizes_px, rung)
            watch = TileWatch(stage.name, stage.watch)
            out = _run_layout(stage, source, guides, layout, runtime, watch, emit, canvases, known_rows)
            break
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err) or layout is None:
                raise
            reason = str(err).splitlines()[0]
        # Outside the except block: there the traceback would keep the failed tile's tensors alive.
        release_cached_memory(device)
        smallest = layout.rung.tile.tile_px if stage.plan else stage.min_tile_px
        lower = next_rung(layout.rung, axes=axes, grain_px=stage.grain_px, min_tile_px=smallest)
        if lower is None or any(isinstance(canvas, StripCanvas) and canvas.emitted for canvas in canvases):
            raise OutOfMemoryError(
                f"{stage.name}: out of memory with one {layout.rung.tile.tile_px} px tile on {device} ({reason}); "
                "close other programs, ask for a smaller result or smaller tiles, or choose another engine"
            )
        rung, said = lower
        device = rung.device
        rungs.append(said)
        ladder.learnt[stage.kind] = rung
    if stage.after is not None and isinstance(source, Plane):
        out = stage.after(source, out)
    report = StageReport(
        name=stage.name,
        tiles=layout.plan.summary(),
        redundancy=layout.plan.redundancy,
        batch=layout.rung.batch,
        images=layout.rung.images,
        device=str(device),
        seconds=time.perf_counter() - started,
        rungs=tuple(rungs),
        bad_tiles=tuple(watch.notes),
    )
    return out, report


def out_cells(stage: Stage, sizes_px: Sequence[int]) -> tuple[int, ...]:
    """Return the cells of a stage's result along every axis."""
    strides = per_axis(stage.out_strides, len(sizes_px))
    return tuple(size // stride for size, stride in zip(sizes_px, strides, strict=True))


@torch.no_grad()
def _run_layout(
    stage: Stage,
    source: Readable,
    guides: Mapping[str, Plane],
    layout: Layout,
    runtime: Runtime,
    watch: TileWatch,
    emit: Emit | None,
    canvases: list[Canvas],
    known_rows: int,
) -> Plane:
    """Run every tile of every image; `canvases` lists those in use, for whoever must know how far it came."""
    sizes_px, images = source.sizes_px, source.images
    strides, cells = per_axis(stage.out_strides, len(sizes_px)), out_cells(stage, source.sizes_px)
    weights = blend_weights(stage, layout.plan, cells)
    if emit is not None:
        if layout.rung.images < images:
            raise OutOfMemoryError(
                f"{stage.name}: {images} images at a time do not fit; stream them one by one"
            )
        rows = max(size for _, size in layout.plan.axes[0]) // strides[0]
        shape, budget = (images, stage.out_channels, *cells), runtime.strip_budget_bytes
        strip = StripCanvas(emit, shape, strides, rows, first_row=known_rows, budget_bytes=budget)
        canvases.append(strip)
        _run_images(stage, source, guides, layout, runtime, watch, strip, weights, progress=(0, 1))
        return Plane(torch.zeros(images, stage.out_channels, 0, *cells[1:]), strides)
    out = torch.zeros(images, stage.out_channels, *cells, device=runtime.canvas_device)
    parts = range(0, images, layout.rung.images)
    for number, first in enumerate(parts):
        some = slice(first, min(first + layout.rung.images, images))
        of_some = source.of_images(some) if isinstance(source, Plane) else source
        their_guides = {name: guide.of_images(some) for name, guide in guides.items()}
        canvas = MemoryCanvas(Plane(out[some], strides))
        canvases.append(canvas)
        _run_images(
            stage,
            of_some,
            their_guides,
            layout,
            runtime,
            watch,
            canvas,
            weights,
            progress=(number, len(parts)),
        )
    return Plane(out, strides)


def _run_images(
    stage: Stage,
    source: Readable,
    guides: Mapping[str, Plane],
    layout: Layout,
    runtime: Runtime,
    watch: TileWatch,
    canvas: Canvas,
    weights: Sequence[tuple[Tensor, ...]],
    *,
    progress: tuple[int, int],
) -> None:
    """Run every tile of some images at a time; `progress` says which part of all images these are, and of how many."""
    boxes, batch, device = layout.plan.boxes, layout.rung.batch, layout.rung.device
    images, (part, parts) = source.images, progress
    changes: list[float] = []
    # Of a stage that looks for idle tiles: they are judged when their neighbours are there.
    kept: list[Tensor] = []
    coming: list[tuple[Box, Returning]] = []
    done = 0

    def settle() -> None:
        if not coming:
            return
        for box, tile in coming:
            canvas.add(box, tile.arrived())
        coming.clear()
        runtime.progress(Tick(stage.name, done, parts * len(boxes), canvas.shown()))

    with _sampled(stage, source, guides, layout, tidy=runtime.tidy):
        for first in range(0, len(boxes), batch):
            if runtime.should_stop():
                raise Cancelled(f"stopped in stage {stage.name!r} after {first} of {len(boxes)} tiles")
            some = boxes[first : first + batch]
            if not any(map(canvas.lacks, some)):
                continue
            inputs, cropped = tile_inputs(guides, source, some, device)
            tiles = stage.run(inputs, cropped)
            settle()  # on a card: the batch before, while this one is computed
            tiles = watch.mended(tiles, inputs, some, _repeater(stage, inputs, cropped))
            if tiles.shape[1] != stage.out_channels:
                raise ShapeError(
                    f"{stage.name}: expected {stage.out_channels} channels from the network, got {tiles.shape[1]}"
                )
            each = tiles.split(images)
            sums = [weighted(tile, weights[first + i]) for i, tile in enumerate(each)]
            coming = list(zip(some, returning(sums, runtime.canvas_device), strict=True))
            done = part * len(boxes) + first + len(some)
            if stage.watch.idle:
                changes += [change(seen, tile) for seen, tile in zip(inputs.split(images), each, strict=True)]
                kept += [tile.to(runtime.canvas_device) for tile in each]
            if not overlaps(device):
                settle()
        settle()
        for i in watch.idle(changes, layout.plan.counts):
            moved = None
            if stage.repeat is not None:
                inputs, cropped = tile_inputs(guides, source, boxes[i : i + 1], device)
                again = stage.repeat(inputs, cropped).to(runtime.canvas_device)
                moved = change(inputs, again) > 2 * changes[i]
                canvas.add(boxes[i], weighted(again.float() - kept[i].float(), weights[i]))
            watch.report_idle(boxes[i], moved=moved)
    canvas.finish()


@contextmanager
def _sampled(
    stage: Stage, source: Readable, guides: Mapping[str, Plane], layout: Layout, *, tidy: Callable[[], None]
) -> Iterator[None]:
    """Let the stage look at a sample of the plane, if it wants to and there is more than one tile."""
    if stage.sampling is None or layout.crops is None:
        yield
        return
    sample = take_sample(source, layout.crops)
    crops, cropped = tile_inputs(guides, source, sample.boxes, layout.rung.device)
    seen = stage.sampling.look(crops, cropped, sample)
    tidy()
    with seen():
        yield
    tidy()


def _repeater(stage: Stage, inputs: Tensor, guides: Mapping[str, Tensor]) -> Repeat | None:
    """Return how to make tiles of a batch again, or None."""
    repeat = stage.repeat
    if repeat is None:
        return None
    return lambda which: repeat(inputs[which], {name: guide[which] for name, guide in guides.items()})
