"""What a run will take, told before it starts: its size, tiles, memory and, once it is known here, time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch

from ..engines.base import Engine
from ..image.size import MAX_SIDE_PX
from ..progress import duration
from ..request import Report, Request
from ..runtime import Runtime
from ..tiling.geometry import Plane
from ..weights.download.sources import human_size
from .device_speed import pace_of, remember_pace
from .work import META, lay_run

IN_WORK = 3
"""A picture in work takes its result's memory so many times: the canvas, what is blended onto it, and the input at its
size."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will take."""

    input_px: tuple[int, int]
    output_px: tuple[int, int]
    pictures: int
    tiles: int
    """Of all stages of one picture."""
    working_bytes: int
    """On the device, beside the weights."""
    canvas_bytes: int
    """Where the pictures lie: the results and what is in work."""
    free_bytes: int | None
    """There, now; None where nobody can tell."""
    seconds: float | None
    """None until a picture was restored with these weights on this device."""

    @property
    def largest_px(self) -> tuple[int, int] | None:
        """Height and width of the largest result of this shape for which there is memory; None if nobody can tell."""
        if self.free_bytes is None:
            return None
        h, w = self.output_px
        grow = min(sqrt(self.free_bytes / self.canvas_bytes), MAX_SIDE_PX / max(h, w))
        return int(h * grow), int(w * grow)

    def __str__(self) -> str:
        times = f"{self.pictures} × " if self.pictures > 1 else ""
        takes = [] if self.seconds is None else [f"about {duration(self.seconds)}"]
        takes.append(f"{human_size(self.working_bytes + self.canvas_bytes)} beside the weights")
        if self.largest_px is not None:
            takes.append(f"largest here {shown(self.largest_px)} px")
        tiles = "1 tile" if self.tiles == 1 else f"{self.tiles} tiles"
        return f"{times}{shown(self.input_px)} → {shown(self.output_px)} px · {tiles} · {' · '.join(takes)}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What should be changed before it is tried."""
        if self.free_bytes is None or self.largest_px is None or self.canvas_bytes <= self.free_bytes:
            return ()
        return (
            f"the result needs {human_size(self.canvas_bytes)} of memory and {human_size(self.free_bytes)} are "
            f"free: ask for {shown(self.largest_px)} px or fewer pictures if it fails",
        )


def shown(size_px: Sequence[int]) -> str:
    """Return a (height, width) as people write it."""
    return f"{size_px[1]}×{size_px[0]}"


def forecast(
    engine: Engine,
    shape: Sequence[int],
    request: Request,
    runtime: Runtime,
    *,
    free_bytes: int | None,
    restores_alpha: bool = False,
) -> Forecast:
    """Lay the tiles of a run without running anything.

    Args:
        engine: what will restore.
        shape: [b c h w] of the pictures.
        request: what is asked for.
        runtime: where it will run.
        free_bytes: memory where the pictures will lie, if that is known.
        restores_alpha: whether there is an alpha channel that goes through the engine too.
    """
    pictures, _c, *size = shape
    output_px = request.target.size_for(*size, default_scale=engine.spec.default_scale)
    prepared = engine.prepare(
        Plane(torch.empty(1, engine.spec.in_channels, *size, device=META)), output_px, request
    )
    laid = list(lay_run(engine, prepared, request, runtime))
    result_bytes = 4 * (engine.spec.out_channels + restores_alpha) * output_px[0] * output_px[1]
    pace = pace_of(engine.spec, runtime.device)
    seconds = None if pace is None else pace * output_px[0] * output_px[1] * pictures * (1 + restores_alpha)
    return Forecast(
        input_px=(size[0], size[1]),
        output_px=output_px,
        pictures=pictures,
        tiles=sum(stage.tiles for stage in laid),
        working_bytes=int(
            max((stage.layout.working_area_px * stage.stage.bytes_per_px for stage in laid), default=0)
        ),
        canvas_bytes=result_bytes * (pictures + IN_WORK),
        free_bytes=free_bytes,
        seconds=seconds,
    )


def learn(engine: Engine, runtime: Runtime, reports: Sequence[Report]) -> None:
    """Remember how long a pixel took, for the next run with these weights on this device."""
    area_px = sum(report.output_px[-2] * report.output_px[-1] for report in reports)
    remember_pace(engine.spec, runtime.device, sum(report.seconds for report in reports) / area_px)
