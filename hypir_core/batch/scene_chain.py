"""What one engine, or a chain of them, does with a scene: planned as a whole first, then engine by engine.

What an engine of a chain makes is a file in a hidden folder beside the result, of the result's format: the chain gives
what its commands give one after the other, memory stays bounded, and a killed run goes on in the link where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from ..chained import part_of
from ..color.mode import ColorFix
from ..engines.base import Engine, EngineSpec, Prepared
from ..engines.chain import Chain
from ..errors import ImageFileError
from ..files.scenes.axes import Wanted
from ..files.scenes.catalog import open_scene, open_scene_sink
from ..files.scenes.grid import Grid, bands_by_name
from ..files.scenes.result import Order
from ..files.scenes.scene import Scene
from ..reporting import make_report
from ..request import Report, Request
from ..runtime import Runtime
from ..scenes.checks import check_wishes
from ..scenes.notes import damaged_planes
from ..scenes.plan import bands_of, factors_of, order_of
from ..scenes.reading import Shape
from ..scenes.restoring import restore_scene


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One engine, and how it walks the scene that it gets."""

    engine: Engine
    request: Request
    order: Order
    factors: dict[str, int]
    bands: tuple[str, ...]
    """Of its result."""
    grid: Grid
    """Of its result."""


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """A scene that is not there yet."""

    path: Path
    grid: Grid


def wanted_of(spec: EngineSpec, *, bands: tuple[str, ...], axes: str, dataset: str) -> Wanted:
    """Return what a person and an engine want of a scene."""
    return Wanted(
        bands=bands,
        axes=axes,
        dataset=dataset,
        dims=spec.axes,
        channels=spec.in_channels,
        named=spec.bands if spec.in_channels > 1 else (),  # one channel: those of a scene one by one
    )


def steps_of(engine: Engine, scene: Scene, request: Request) -> tuple[Step, ...]:
    """Plan what every engine does, without reading a number.

    Raises:
        ConfigError, ShapeError, ImageFileError: an engine cannot take the scene, or what the one before it makes of it.
    """
    links = [link.engine for link in engine.links] if isinstance(engine, Chain) else [engine]
    wishes = engine.requests(request) if isinstance(engine, Chain) else (request,)
    steps: list[Step] = []
    planned = _Planned(path=scene.path, grid=scene.grid)
    for link, wish in zip(links, wishes, strict=True):
        spec, names = link.spec, planned.grid.bands
        check_wishes(spec, wish)
        if steps and spec.bands and spec.in_channels > 1:
            chosen, _ = bands_by_name(
                names, spec.bands, f"{steps[-1].engine.spec.name!r} before {spec.name!r}"
            )
            if chosen:
                bands = tuple(names[int(number) - 1] for number in chosen)
                planned = replace(planned, grid=replace(planned.grid, bands=bands))
        order, factors, bands = (
            order_of(spec, planned),
            factors_of(link, planned, wish),
            bands_of(spec, planned),
        )
        grid = planned.grid.enlarged(factors, bands)
        steps.append(Step(engine=link, request=wish, order=order, factors=factors, bands=bands, grid=grid))
        planned = replace(planned, grid=grid)
    return tuple(steps)


@contextmanager
def before_the_last(
    steps: Sequence[Step], scene: Scene, runtime: Runtime, *, output: Path, format_name: str, key: str
) -> Iterator[tuple[Scene, list[Report]]]:
    """Run all steps but the last; give the scene that the last one gets, and the reports.

    Args:
        steps: from `steps_of`.
        scene: what the first gets; it is not closed.
        runtime: of the whole.
        output: the result's name: what lies between two steps is kept beside it until the block ends.
        format_name: the result's.
        key: of the result; with it, what a killed run made is taken.
    """
    if len(steps) == 1:
        yield scene, []
        return
    folder = _own_folder(output, key)
    reports: list[Report] = []
    made = scene
    try:
        for number, (step, following) in enumerate(pairwise(steps)):
            path = folder / str(number + 1) / output.name
            running = replace(runtime, progress=part_of(runtime.progress, number, len(steps)))
            try:
                reports.append(_made(step, made, running, path, format_name=format_name, key=key))
            finally:
                if made is not scene:
                    made.close()
            wanted = wanted_of(following.engine.spec, bands=(), axes="", dataset="")
            made = open_scene(path, wanted, format_name=format_name)
        yield made, reports
    finally:
        if made is not scene:
            made.close()
        shutil.rmtree(folder, ignore_errors=True)


def _made(step: Step, scene: Scene, runtime: Runtime, path: Path, *, format_name: str, key: str) -> Report:
    """Restore a scene into a hidden file, or tell of the one that is there."""
    spec = step.engine.spec
    if path.exists():
        return replace(
            _report_without_work(step, scene, runtime), notes=(f"{spec.name}: taken from a stopped run",)
        )
    sink = open_scene_sink(
        path, scene, step.factors, format_name=format_name, order=step.order, bands=step.bands, key=key
    )
    try:
        report = restore_scene(step.engine, scene, sink, step.request, runtime)
        if wrong := damaged_planes(sink):
            raise ImageFileError(
                f"{wrong}; a chain of engines ends there: restore by one engine after the other"
            )
        sink.commit()
    except BaseException:
        sink.abort()
        raise
    return replace(report, notes=(*report.notes, *sink.notes))


def _report_without_work(step: Step, scene: Scene, runtime: Runtime) -> Report:
    return make_report(
        step.engine.spec,
        step.request,
        runtime,
        prepared=Prepared(plane=Shape(scene.sizes_px, 1), content_px=()),
        stages=(),
        input_px=scene.grid.sizes,
        output_px=step.grid.sizes,
        seconds=0.0,
        color_fix=ColorFix.none,
    )


def _own_folder(output: Path, key: str) -> Path:
    """Return the hidden folder of a run; those of runs with another key are removed."""
    head = f".{output.name[:40]}."
    folder = output.with_name(f"{head}{key[:16] or 'new'}.chain")
    if output.parent.is_dir():
        for other in output.parent.glob(f"{_plain(head)}*.chain"):
            if other != folder or not key:
                shutil.rmtree(other, ignore_errors=True)
    return folder


def _plain(name: str) -> str:
    """Return a pattern that means this name only."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
