"""A scene through a feed-forward engine: rasters of any bands, volumes, stacks; neither end is ever whole in memory.

scene → holes filled → tiles of two or three axes → strips, as soon as no later tile changes them → holes again → sink.
A network of two axes walks a volume slice by slice, one of three axes a series volume by volume; a network of one
channel takes the channels of a scene one by one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ..color.mode import ColorFix
from ..engines.base import Engine, Prepared
from ..engines.leaving import leaving_when_it_ends_early
from ..engines.of_scene import OfScene
from ..errors import ImageFileError, ShapeError
from ..files.scenes.memory import MemorySink
from ..files.scenes.result import Order
from ..files.scenes.scene import ArrayScene, Scene
from ..reporting import make_report
from ..request import Report, Request
from ..runtime import Runtime
from ..tiling.stage import StageReport
from .checks import check_any_data, check_format, check_wishes
from .figures import Parts, check_truth, figures_of
from .notes import facts_of
from .plan import bands_of, factors_of, order_of
from .reading import Shape, Values
from .walk import StripSink, Walk

STRIP_BYTES = 1 << 26
"""Of a strip in memory; a larger one lies in a scratch file."""


class FiguredSink(StripSink, Parts, Protocol):
    """Takes a result, and gives its numbers back once they are all there."""


@leaving_when_it_ends_early
@torch.no_grad()
def restore_scene(
    engine: Engine,
    scene: Scene,
    sink: FiguredSink,
    request: Request,
    runtime: Runtime,
    *,
    truth: Scene | None = None,
) -> Report:
    """Restore a scene into a sink; a sink that a killed run began is gone on with.

    Args:
        engine: of one stage, which is streamed, or of several, which work on one plane after the other in memory.
        scene: open; its channels are the engine's, or the engine has one.
        sink: made with `order_of`, `factors_of` and `bands_of`. It is neither committed nor aborted here.
        request: what is asked for. A scene keeps its own values: no strength, colour fix, edges or sharpening.
        runtime: device, memory, progress, cancellation.
        truth: what the result should be, of its size: the report says how near it is.

    Returns:
        The report.

    Raises:
        ConfigError: the request cannot be had; the scene is without data everywhere; the truth does not fit.
        ShapeError: the scene has other channels.
        OutOfMemoryError, Cancelled, RangeError: as `pipeline.restore`.
        ImageFileError: the file is damaged. An engine of exposures (`OfScene`) restores the other planes all the same:
            the damaged ones are without data, and `damaged_planes` says so.
    """
    started = time.perf_counter()
    spec, order = engine.spec, sink.order
    check_wishes(spec, request)
    if order_of(spec, scene) != order:
        raise ShapeError("expected a sink whose order is that of this engine and scene")
    if truth is not None:
        check_truth(truth, sink.grid)
    if not sink.done_rows:
        check_any_data(scene)
    values = Values(scene, 1.0 if spec.file_values else scene.grid.white)
    check_format(engine, sink.grid, values.white)
    walk = Walk(scene, sink, request, _bounded(runtime), values)
    told = _Told(engine, values)
    reports, notes = [], []
    for number, place in enumerate(_places(scene, order)):
        if sink.done_rows >= (number + 1) * order.rows(sink.grid):
            continue
        try:
            prepared, of_pass = walk.one(number, place, told.of(place[0]))
        except ImageFileError as err:
            # Exposures of a microscope are good without each other; slices of a volume are one thing.
            if not isinstance(engine, OfScene) or len(walk.damaged) + 1 == order.passes(sink.grid):
                raise
            walk.leave_out(number, place, err)
            continue
        reports.append(of_pass)
        notes += [note for note in prepared.notes if note not in notes]
    figures = figures_of(told.of(next(_places(scene, order))[0]), scene, sink, truth, white=values.white)
    report = make_report(
        spec,
        request,
        runtime,
        prepared=Prepared(plane=Shape(scene.sizes_px, 1), content_px=()),
        stages=_joined(reports),
        input_px=scene.grid.sizes,
        output_px=sink.grid.sizes,
        seconds=time.perf_counter() - started,
        color_fix=ColorFix.none,
    )
    said = (
        *scene.notes,
        *report.notes,
        *notes,
        *facts_of(scene, sink, prod(sink.factors.values())),
        *figures.notes,
    )
    return replace(report, notes=tuple(dict.fromkeys(said)), measures=figures.measures)


def restore_planes(
    engine: Engine, planes: np.ndarray, request: Request, runtime: Runtime
) -> tuple[np.ndarray, Report]:
    """Restore planes in memory as those of one stack: treated alike, noise drawn for each.

    Args:
        engine: of one channel.
        planes: [n rows columns] float32, in the numbers that a file would hold; NaN where there is no data.
        request: what is asked for.
        runtime: where it runs.

    Returns:
        [n c rows columns] float32 in the same numbers, with the channels that the engine gives; and the report.

    Raises:
        HypirError: as `restore_scene`.
    """
    array: Any = planes
    scene = ArrayScene(Path("planes"), array, "zyx")
    order = order_of(engine.spec, scene)
    factors = factors_of(engine, scene, request)
    sink = MemorySink(scene.grid, order, factors, bands_of(engine.spec, scene))
    report = restore_scene(engine, scene, sink, request, runtime)
    return sink.array, report


class _Told:
    """An engine that is told of the scene, channel by channel where these are restored for themselves."""

    def __init__(self, engine: Engine, values: Values):
        self._engine, self._values = engine, values
        self._known: dict[int | None, Engine] = {}

    def of(self, channels: slice) -> Engine:
        """Return the engine for some channels."""
        engine, values, first = self._engine, self._values, channels.start
        if not isinstance(engine, OfScene):
            return engine
        if first not in self._known:
            place = -1 if first is None else first
            self._known[first] = engine.of_scene(values.white, lambda: values.statistics[place])
        return self._known[first]


def _bounded(runtime: Runtime) -> Runtime:
    """Return a runtime whose memory does not grow with the scene: of strips, and on a CPU of tiles at a time.

    A CPU is busy with one tile; a batch of as many as fit would only take what memory there is.
    """
    batch = 1 if runtime.device.type == "cpu" and runtime.batch_tiles is None else runtime.batch_tiles
    return replace(runtime, strip_budget_bytes=STRIP_BYTES, batch_tiles=batch)


def _places(scene: Scene, order: Order) -> Iterator[tuple[slice, tuple[int, ...]]]:
    """Yield the channels and the index along the walked axes of every pass."""
    groups = [slice(c, c + 1) for c in range(scene.channels)] if order.separate else [slice(None)]
    for channels in groups:
        for index in np.ndindex(*scene.grid.sizes[: order.loops]):
            yield channels, tuple(index)


def _joined(passes: Sequence[Sequence[StageReport]]) -> tuple[StageReport, ...]:
    """Return the report of all passes: that of the first, with all seconds and notes."""
    return tuple(_over_passes(reports) for reports in zip(*passes, strict=True))


def _over_passes(reports: Sequence[StageReport]) -> StageReport:
    first = reports[0]
    passes = f", {len(reports)} times" if len(reports) > 1 else ""
    return replace(
        first,
        tiles=f"{first.tiles}{passes}",
        seconds=sum(report.seconds for report in reports),
        rungs=tuple(rung for report in reports for rung in report.rungs),
        bad_tiles=tuple(note for report in reports for note in report.bad_tiles),
    )
