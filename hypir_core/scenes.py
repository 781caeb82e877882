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

from .color.mode import ColorFix
from .engines.base import Engine, EngineSpec, Prepared
from .engines.leaving import leaving_when_it_ends_early
from .engines.of_scene import OfScene
from .errors import ConfigError, ImageFileError, ShapeError
from .files.scenes.grid import Grid, told
from .files.scenes.memory import MemorySink
from .files.scenes.result import Order
from .files.scenes.scene import ArrayScene, Scene
from .image.size import MAX_SCALE
from .reporting import make_report
from .request import Report, Request
from .runtime import Runtime
from .scene_checks import check_any_data, check_format, check_wishes
from .scene_figures import Parts, check_truth, figures_of
from .scene_reading import Shape, Values
from .scene_walk import StripSink, Walk
from .tiling.geometry import by
from .tiling.stage import StageReport

MAX_SIDE = 1 << 22
"""Cells of a result along an axis."""

STRIP_BYTES = 1 << 26
"""Of a strip in memory; a larger one lies in a scratch file."""

CLIPPED_SHARE = 0.05
"""More values than this beyond the number format deserve a warning."""


class FiguredSink(StripSink, Parts, Protocol):
    """Takes a result, and gives its numbers back once they are all there."""


class Gridded(Protocol):
    """A scene, or the plan of one."""

    @property
    def path(self) -> Path:
        """Names it in errors."""
        ...

    @property
    def grid(self) -> Grid:
        """Its cells."""
        ...


def order_of(spec: EngineSpec, scene: Gridded) -> Order:
    """Return in which passes a network walks a scene.

    Raises:
        ConfigError: the network has more axes than the scene.
        ShapeError: it takes other channels.
    """
    axes = scene.grid.axes
    if not 2 <= spec.axes <= 3:
        raise ConfigError(
            f"engine {spec.name!r} has {spec.axes} axes; scenes are restored by networks of 2 or 3 axes"
        )
    if spec.axes > len(axes):
        raise ConfigError(
            f"engine {spec.name!r} restores volumes of {spec.axes} axes, and {scene.path} has the axes {axes.upper()}; "
            "choose weights of 2 axes"
        )
    given, wanted = len(scene.grid.bands), spec.in_channels
    if given != wanted and not (wanted == spec.out_channels == 1):
        raise ShapeError(
            f"engine {spec.name!r} takes {wanted} channel{'s' * (wanted > 1)}, {scene.path.name} has {given} "
            f"({told(scene.grid.bands)}); "
            + (f"choose {wanted} of them with --bands, or " if given > wanted else "choose ")
            + f"an engine or weights made for {given}"
        )
    return Order(loops=len(axes) - spec.axes, separate=given != wanted)


def factors_of(engine: Engine, scene: Gridded, request: Request) -> dict[str, int]:
    """Return the factor along every axis of a scene.

    Raises:
        ConfigError: the network does not have the factor that is asked for.
    """
    spec, grid = engine.spec, scene.grid
    height, width = grid.sizes[-2:]
    size = request.target.size_for(height, width, default_scale=spec.default_scale, max_side_px=MAX_SIDE)
    factor = size[0] / height
    axes = grid.axes[-spec.axes :]
    sizes = grid.sizes[-spec.axes :]
    if spec.streams:
        wanted = tuple(round(length * factor) for length in sizes)
        strides = engine.prepare(Shape(sizes, spec.in_channels), wanted, request).plane.strides
    else:
        strides = (round(spec.default_scale),) * spec.axes
    whole = max(strides)
    if (height * whole, width * whole) != size:
        raise ConfigError(
            f"a scene becomes larger by a whole factor that the network has, so that cells stay on the grid of the "
            f"ground; engine {spec.name!r} has up to ×{spec.default_scale:g}, got ×{factor:g}; choose --scale "
            f"{min(float(whole), MAX_SCALE):g}"
        )
    return dict.fromkeys(grid.axes, 1) | dict(zip(axes, strides, strict=True))


def bands_of(spec: EngineSpec, scene: Gridded) -> tuple[str, ...]:
    """Return the names of a result's channels."""
    same = spec.in_channels == spec.out_channels
    return scene.grid.bands if same else ("",) * spec.out_channels


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
        *_facts(scene, sink, prod(sink.factors.values())),
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


def damaged_planes(sink: StripSink) -> str:
    """Return what was wrong with the planes that could not be read; nothing where all could."""
    found = [f"{why}" for _, why in sink.facts.get("damaged", [])]
    more = f" (and {len(found) - 1} more planes)" if len(found) > 1 else ""
    return found[0] + more if found else ""


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


NAMED_PLANES = 8
"""So many planes with holes are named; of more, the first."""


def _named(sink: StripSink) -> str:
    """Return which planes of a stack have holes, counted from 0 as the file does."""
    outer = sink.grid.axes[: sink.order.loops]
    places = sink.facts.get("hole_planes", [])
    if not outer or not places:
        return ""
    named = [
        " ".join(f"{a} {i}" for a, i in zip(outer, place, strict=True)) for place in places[:NAMED_PLANES]
    ]
    more = f" and {len(places) - len(named)} more" if len(places) > len(named) else ""
    return f" (at {', '.join(named)}{more})"


def _facts(scene: Scene, sink: FiguredSink, cells: int) -> Iterator[str]:
    """Yield what a report says about holes and clipped values."""
    total = prod(sink.grid.sizes)
    groups = len(sink.grid.bands) if sink.order.separate else 1
    if holes := int(sink.facts.get("holes", 0)):
        yield (
            f"{holes // groups // cells} of {prod(scene.grid.sizes)} cells have no data: filled for the network, "
            f"without data in the result{_named(sink)}"
        )
    if beyond := int(sink.facts.get("beyond", 0)):
        share = beyond / (total * len(sink.grid.bands))
        much = " (a warning: choose weights whose range fits the scene)" if share > CLIPPED_SHARE else ""
        yield f"{beyond} values ({share:.2%}) were beyond {sink.grid.dtype} and became its limits{much}"
    sizes = by(sink.grid.sizes)
    if sink.order.separate:
        yield f"each of {scene.channels} channels went through the network for itself, {sizes}"
