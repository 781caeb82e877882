"""What a run will do before it is started: tiles, batches, memory and time, from the shapes alone.

The tiles come from `tiling.choose`, as in the run itself. Arithmetic is counted on torch's meta device, where
tensors have shapes and no numbers, so no weights are needed. Time is arithmetic over the measured rate of the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch

from ..device import describe_device
from ..engines.catalog import ENGINES, engine_options
from ..image.size import TargetSize
from ..request import Request
from ..runtime import Runtime
from ..tiling.geometry import Plane
from .device_speed import matrix_rate, shares_of_matrix_rate
from .work import META, LaidStage, lay_run


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage of a run that has not been started."""

    name: str
    tiles: str
    """As the report of the run will say it."""
    tile_px: tuple[int, ...]
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
        runtime: memory and batch, where they are not left to the plan; its device is replaced.
        request: tiles, where they are not left to the plan.

    Raises:
        UnknownNameError, ConfigError: as `load_engine` and `restore`.
        WeightsError: an engine whose shapes stand in its weight file cannot read it.
    """
    skeleton = ENGINES.get(engine).skeleton()(engine_options(engine, options), device, dtype, None)
    chosen_dtype = getattr(torch, skeleton.spec.dtype)
    request = request or Request(target=TargetSize(scale=scale))
    runtime = replace(runtime or Runtime(), device=device)
    sizes = (max(1, round(side / scale)) for side in size_px)
    small = Plane(torch.empty(1, skeleton.spec.in_channels, *sizes, device=META))
    prepared = skeleton.prepare(small, size_px, request)
    rate = matrix_rate(device, chosen_dtype)
    shares = shares_of_matrix_rate(engine, device, chosen_dtype)
    laid = list(lay_run(skeleton, prepared, request, runtime))
    canvas_bytes = laid[0].plane.data.nbytes + 4 * skeleton.spec.out_channels * prod(laid[-1].plane.sizes_px)
    return RunPlan(
        engine=engine,
        device=describe_device(device),
        dtype=skeleton.spec.dtype,
        output_px=size_px,
        canvas_device=str(runtime.canvas_device),
        canvas_bytes=canvas_bytes,
        stages=tuple(_stage_plan(stage, rate=rate, share=shares.get(stage.stage.kind)) for stage in laid),
        matrix_flops_per_second=rate,
    )


def _stage_plan(laid: LaidStage, *, rate: float, share: float | None) -> StagePlan:
    flops, plan = laid.flops(), laid.layout.plan
    return StagePlan(
        name=laid.stage.name,
        tiles=plan.summary(),
        tile_px=plan.tile_sizes_px,
        tile_count=laid.tiles,
        batch=laid.layout.rung.batch,
        working_bytes=int(laid.layout.working_area_px * laid.stage.bytes_per_px),
        flops=flops,
        seconds=flops / (rate * share) if share else None,
    )
