"""What a run will do before it is started: tiles, batches, memory and time, from the shapes alone.

The tiles come from `tiling.choose`, as in the run itself. Arithmetic is counted on torch's meta device, where
tensors have shapes and no numbers, so no weights are needed. Time is arithmetic over the measured rate of the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..config import build
from ..device import describe_device
from ..engines.catalog import ENGINES
from ..image.size import TargetSize
from ..pipeline import tile_for
from ..request import Request
from ..runtime import Runtime
from ..tiling.choose import ChosenTiles, choose_tiles, working_area_px
from ..tiling.geometry import Box, Plane
from ..tiling.run import Stage
from ..tiling.sample import crop_grid
from .device_speed import matrix_rate, shares_of_matrix_rate

META = torch.device("meta")


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage of a run that has not been started."""

    name: str
    tiles: str
    """As the report of the run will say it."""
    tile_px: tuple[int, int]
    """Height and width of a tile."""
    tile_count: int
    batch: int
    """Tiles at a time."""
    working_bytes: int
    """Memory of one batch, above the weights."""
    flops: int
    """Floating-point operations of all tiles, and of the sample before them."""
    seconds: float | None
    """Expected; None until `hypir bench` has measured what share of the matrix rate this stage reaches here."""


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run that has not been started."""

    engine: str
    device: str
    dtype: str
    output_px: tuple[int, int]
    canvas_device: str
    """Where the whole picture lies between the stages."""
    canvas_bytes: int
    """The first stage's input and the last one's output, whole, in float32."""
    stages: tuple[StagePlan, ...]
    matrix_flops_per_second: float
    """Measured on this device, once."""

    @property
    def working_bytes(self) -> int:
        """Memory that the largest stage takes above weights and canvas."""
        return max(stage.working_bytes for stage in self.stages)

    @property
    def least_seconds(self) -> float:
        """Time of the arithmetic alone at the rate of a large matrix product."""
        return sum(stage.flops for stage in self.stages) / self.matrix_flops_per_second

    @property
    def seconds(self) -> float | None:
        """Expected time of the stages together; None where one is not known."""
        known = [stage.seconds for stage in self.stages if stage.seconds is not None]
        return sum(known) if len(known) == len(self.stages) else None


def plan_run(
    engine: str,
    size_px: tuple[int, int],
    *,
    options: Mapping[str, Any],
    device: torch.device,
    dtype: str = "auto",
    scale: int = 4,
    runtime: Runtime | None = None,
    request: Request | None = None,
) -> RunPlan:
    """Plan a result of `size_px` (height, width) without loading weights or making a picture.

    Args:
        engine: name from the catalog.
        size_px: size of the result; the input is `scale` times smaller, rounded.
        options: the engine's own settings.
        device: where it would run; it is not used, but for one measurement of its rate.
        dtype: as for `load_engine`.
        scale: factor between input and result.
        runtime: memory and batch, where they are not left to the plan; its device and format are replaced.
        request: tiles, where they are not left to the plan.

    Raises:
        UnknownNameError, ConfigError: as `load_engine` and `restore`.
        WeightsError: an engine whose shapes stand in its weight file cannot read it.
    """
    entry = ENGINES.get(engine)
    settings = build(entry.options, options, where=f"engine {engine}")
    skeleton, chosen_dtype = entry.skeleton()(settings, device, dtype, None)
    request = request or Request(engine=engine, target=TargetSize(scale=scale))
    runtime = runtime or Runtime()
    channels = skeleton.spec.channels
    small = torch.empty(1, channels, *(max(1, round(side / scale)) for side in size_px), device=META)
    prepared = skeleton.prepare(small, size_px, request)
    rate = matrix_rate(device, chosen_dtype)
    shares = shares_of_matrix_rate(engine, device, chosen_dtype)
    plane, stages = prepared.plane, []
    canvas_bytes = plane.data_bchw.nbytes
    for stage in skeleton.stages(prepared, request):
        tiles = choose_tiles(
            stage,
            (plane.height_px, plane.width_px),
            tile=tile_for(request, skeleton.spec.tile),
            runtime=runtime,
            device=device,
        )
        stages.append(_stage_plan(stage, plane, tiles, rate=rate, share=shares.get(stage.name)))
        s = stage.out_stride_px
        plane = Plane(
            torch.empty(1, stage.out_channels, plane.height_px // s, plane.width_px // s, device=META), s
        )
    return RunPlan(
        engine=engine,
        device=describe_device(device),
        dtype=str(chosen_dtype).removeprefix("torch."),
        output_px=size_px,
        canvas_device=str(runtime.canvas_device),
        canvas_bytes=canvas_bytes + plane.data_bchw.nbytes,
        stages=tuple(stages),
        matrix_flops_per_second=rate,
    )


def _stage_plan(
    stage: Stage, plane: Plane, tiles: ChosenTiles, *, rate: float, share: float | None
) -> StagePlan:
    count, first = len(tiles.plan.boxes), tiles.plan.boxes[0]
    flops = _flops(stage, plane, first) * count
    if stage.survey is not None and count > 1:
        crops = crop_grid(tiles.plan, stage.survey.size)
        flops += _flops(stage, plane, Box(0, 0, crops.side_px, crops.side_px)) * crops.count
    return StagePlan(
        name=stage.name,
        tiles=tiles.plan.summary(),
        tile_px=(first.h, first.w),
        tile_count=count,
        batch=tiles.batch,
        working_bytes=int(working_area_px(stage, tiles.plan, batch=tiles.batch) * stage.bytes_per_px),
        flops=flops,
        seconds=flops / (rate * share) if share else None,
    )


def _flops(stage: Stage, plane: Plane, box: Box) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        stage.run(plane.crop(box), {name: guide.crop(box) for name, guide in stage.guides.items()})
    return counter.get_total_flops()
