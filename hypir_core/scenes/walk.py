"""One pass of an engine over a scene: some channels, at one index of the walked axes, into a sink.

An engine that streams reads tiles where they lie, and a strip goes to the sink as soon as no later tile changes it.
Another one (diffusion: a stage per step) works on a plane in memory, and the plane is one strip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..engines.base import Engine, Prepared
from ..files.scenes.grid import Grid
from ..files.scenes.result import Order, valid_cells
from ..files.scenes.scene import Scene
from ..request import Request
from ..runtime import Runtime
from ..tiling.choose import lay_tiles
from ..tiling.geometry import Box, Plane, Readable, per_axis
from ..tiling.memory import Ladder, Rung
from ..tiling.plan import TileConfig
from ..tiling.run import run_stage
from ..tiling.stage import Stage, StageReport
from ..tiling.whole_run import WholeRun
from ..tiling.window import Window
from .reading import Pass, Shape, Values

MOST_RINGS = 64
"""Holes are filled so deep at the most; deeper than the network sees makes no difference."""

SEED_STEP = 0x9E3779B97F4A7C15
"""Between the seeds of passes: 2^64 over the golden ratio, which spreads them."""


class StripSink(Protocol):
    """What takes rows of a result, pass after pass: a file to be, or memory."""

    grid: Grid
    order: Order
    factors: Mapping[str, int]
    facts: dict[str, Any]
    done_rows: int

    def write(self, start_row: int, rows: Tensor, valid: Any = None) -> None:
        """Take rows [1 c r *others] of file values; see `SceneSink.write`."""
        ...


@dataclass(eq=False)
class Walk:
    """What all passes share."""

    scene: Scene
    sink: StripSink
    request: Request
    runtime: Runtime
    values: Values

    def __post_init__(self) -> None:
        self._ladder = Ladder()

    def one(
        self, number: int, place: tuple[slice, tuple[int, ...]], engine: Engine
    ) -> tuple[Prepared, list[StageReport]]:
        """Run one pass; of one that an earlier run began, what is missing."""
        sink, order = self.sink, self.sink.order
        index = place[1]
        axes = sink.grid.axes[order.loops :]
        sizes = self.scene.grid.sizes[order.loops :]
        wanted = tuple(size * sink.factors[axis] for axis, size in zip(axes, sizes, strict=True))
        if engine.spec.streams:
            rings = self._rings(engine, sizes, wanted) if self.scene.grid.may_have_holes else 0
            prepared = engine.prepare(Pass(self.values, *place, rings), wanted, self.request)
            (stage,) = engine.stages(prepared, self.request)
            self._lay(stage, prepared)
            return prepared, [self._streamed(stage, prepared, number, index, wanted)]
        request = replace(self.request, seed=(self.request.seed + number * SEED_STEP) % 2**63)
        reading = Pass(self.values, *place, MOST_RINGS if self.scene.grid.may_have_holes else 0)
        prepared = engine.prepare(Plane(reading.crop(Box((0,) * len(sizes), sizes))), wanted, request)
        stages = tuple(engine.stages(prepared, request))
        for stage in stages:
            self._lay(stage, prepared)
        return prepared, self._whole(stages, prepared, number, index, wanted)

    @property
    def damaged(self) -> list[tuple[int, str]]:
        """Passes whose input could not be read, and why; also those of an earlier run."""
        return self.sink.facts.setdefault("damaged", [])

    def leave_out(self, number: int, place: tuple[slice, tuple[int, ...]], why: Exception) -> None:
        """Leave the rest of a pass without data."""
        sink, order = self.sink, self.sink.order
        rows = order.rows(sink.grid)
        missing = (number + 1) * rows - sink.done_rows
        others = sink.grid.sizes[order.loops + 1 :]
        self.damaged.append((number, str(why)))
        empty = torch.zeros(1, order.channels(sink.grid), missing, *others)
        sink.write(sink.done_rows, empty, np.zeros((missing, *others), bool))

    def _streamed(
        self, stage: Stage, prepared: Prepared, number: int, index: tuple[int, ...], wanted: tuple[int, ...]
    ) -> StageReport:
        known = self.sink.done_rows - number * self.sink.order.rows(self.sink.grid)

        def take(first: int, rows: Tensor) -> None:
            self._take(number, index, wanted, first, rows)

        progress = WholeRun(self._counted(number).progress, [stage], touches=())
        _, report = run_stage(
            stage,
            prepared.plane,
            wish=self.request.tile,
            runtime=replace(self.runtime, progress=progress.of(0)),
            ladder=self._ladder,
            emit=take,
            known_rows=known,
        )
        return report

    def _whole(
        self,
        stages: Sequence[Stage],
        prepared: Prepared,
        number: int,
        index: tuple[int, ...],
        wanted: tuple[int, ...],
    ) -> list[StageReport]:
        """Run the stages on a plane in memory."""
        plane: Readable = prepared.plane
        progress = WholeRun(self._counted(number).progress, stages, touches=())
        reports = []
        for place, stage in enumerate(stages):
            running = replace(self.runtime, progress=progress.of(place))
            plane, report = run_stage(
                stage, plane, wish=self.request.tile, runtime=running, ladder=self._ladder
            )
            reports.append(report)
        assert isinstance(plane, Plane)
        self._take(number, index, wanted, 0, plane.data)
        return reports

    def _rings(self, engine: Engine, sizes: tuple[int, ...], wanted: tuple[int, ...]) -> int:
        """Return how deep a network looks into a hole, in cells of the scene."""
        prepared = engine.prepare(Shape(sizes, engine.spec.in_channels), wanted, self.request)
        (stage,) = engine.stages(prepared, self.request)
        strides = prepared.plane.strides
        margins = per_axis(stage.margin_px, len(strides))
        return min(MOST_RINGS, max(1, *(-(-m // s) for m, s in zip(margins, strides, strict=True))))

    def _lay(self, stage: Stage, prepared: Prepared) -> None:
        """Choose the tiles: once for all passes, and as a killed run chose them."""
        if stage.kind in self._ladder.learnt:
            return
        said = self.sink.facts.get("tiles", {}).get(stage.kind)
        if said is not None:
            self._ladder.learnt[stage.kind] = _rung_of(said, self.runtime.device)
            return
        stage.place(self.runtime.device)
        layout = lay_tiles(stage, prepared.plane.sizes_px, wish=self.request.tile, runtime=self.runtime)
        self._ladder.learnt[stage.kind] = layout.rung

    def _take(
        self, number: int, index: tuple[int, ...], wanted: tuple[int, ...], first: int, rows: Tensor
    ) -> None:
        """Bring rows of the canvas into the sink; what lies beyond the content is padding."""
        sink = self.sink
        rows = rows[(slice(None), slice(None), slice(0, max(0, wanted[0] - first)), *map(slice, wanted[1:]))]
        if rows.shape[2] == 0:
            return
        white = self.values.white
        rows = rows if white == 1 else rows * white
        starts = (*index, first, *[0] * (len(wanted) - 1))
        sizes = (*[1] * len(index), *rows.shape[2:])
        valid = valid_cells(self.scene, Box(starts, sizes), sink.factors)
        sink.facts["tiles"] = {kind: _told(rung) for kind, rung in self._ladder.learnt.items()}
        if (
            valid is not None
            and not valid.all()
            and list(index) not in sink.facts.setdefault("hole_planes", [])
        ):
            sink.facts["hole_planes"].append(list(index))
        at = number * sink.order.rows(sink.grid) + first
        sink.write(at, rows, None if valid is None else valid.reshape(rows.shape[2:]))

    def _counted(self, number: int) -> Runtime:
        """Return a runtime whose progress counts all passes."""
        passes = self.sink.order.passes(self.sink.grid)
        told = self.runtime.progress
        if passes == 1:
            return self.runtime

        def tell(tick: Any) -> None:
            told(
                replace(
                    tick,
                    done=number * tick.total + tick.done,
                    total=passes * tick.total,
                    whole=(number + tick.whole) / passes,
                )
            )

        return replace(self.runtime, progress=tell)


def _told(rung: Rung) -> dict[str, Any]:
    tile = rung.tile
    return {
        "tile_px": tile.tile_px,
        "overlap_px": tile.overlap_px,
        "window": tile.window.value,
        "batch": rung.batch,
    }


def _rung_of(said: Mapping[str, Any], device: torch.device) -> Rung:
    def numbers(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    tile = TileConfig(
        tile_px=numbers(said["tile_px"]),
        overlap_px=numbers(said["overlap_px"]),
        window=Window(said["window"]),
    )
    return Rung(tile=tile, batch=int(said["batch"]), images=1, device=device)
