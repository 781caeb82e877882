"""Time an engine on a picture of a given size: warm up, repeat, take the median."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from statistics import median
from typing import Any

import torch

from ..allocator import give_back_freed_memory
from ..engines.base import Engine
from ..engines.catalog import load_engine
from ..errors import ConfigError
from ..image.size import TargetSize
from ..pipeline import restore
from ..request import Report, Request
from ..runtime import Runtime
from ..tiling.geometry import Plane, Readable
from ..tiling.plan import TileWish
from ..tiling.stage import StageReport
from .matrix_rate import matrix_flops_per_second, synchronize
from .memory import MIB, PeakMemory
from .work import StageWork, warm_up


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured."""

    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)
    size_px: tuple[int, int]
    """Height and width of the result."""
    scale: int = 4
    """The input is this much smaller."""
    dtype: str = "auto"
    device: torch.device
    batch_tiles: int | None = None
    tile_px: int | None = None
    overlap_px: int | None = None

    def __post_init__(self) -> None:
        if any(side % self.scale for side in self.size_px):
            h, w = self.size_px
            raise ConfigError(f"a size must divide by the scale, {self.scale}; got {w}×{h} px")

    def request(self) -> Request:
        """Return the request that is timed."""
        wish = TileWish(tile_px=self.tile_px, overlap_px=self.overlap_px)
        return Request(target=TargetSize(scale=self.scale), tile=wish)


@dataclass(frozen=True, kw_only=True)
class StageFigures:
    """One stage of a row."""

    kind: str
    """Kind of work."""
    seconds: float
    """Median."""
    tiles: str
    batch: int
    tflop: float
    tflops: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured; one row of the table."""

    engine: str
    size: int | str
    """Side of a square, or WIDTHxHEIGHT."""
    dtype: str
    device: str
    seconds: float
    """Median; reading and writing files is not in it."""
    spread_seconds: float
    """Slowest − quickest."""
    all_seconds: tuple[float, ...]
    cpu_seconds: float
    """Median of the processor time of all threads: what is left of it where other programs take their turns."""
    stages: Mapping[str, StageFigures] = field(default_factory=dict)
    peak_mib: int | None
    """Highest memory above the weights, with the picture's own buffers; None where it cannot be measured."""
    buffers_mib: int | None = None
    """The first stage's input and the last one's output, whole and in float32, wherever they lie; on a CPU a
    part of `peak_mib`."""
    tflop: float | None = None
    """10¹² floating-point operations of the networks: convolutions, matrix products, attention."""
    tflops: float | None = None
    """`tflop` per second of the median."""
    matrix_tflops: float | None = None
    """Rate of a matrix product in the same format, measured between the repeats."""
    share_of_matrix_rate: float | None = None
    weights: str = ""
    notes: tuple[str, ...] = ()

    def shares(self) -> Mapping[str, float]:
        """Return kind of work → share of the matrix rate."""
        if not self.matrix_tflops:
            return {}
        done: dict[str, list[StageFigures]] = {}
        for stage in self.stages.values():
            done.setdefault(stage.kind, []).append(stage)
        rates = {
            kind: sum(s.tflop for s in them) / sum(s.seconds for s in them) for kind, them in done.items()
        }
        return {kind: rate / self.matrix_tflops for kind, rate in rates.items()}


def load(case: Case) -> Engine:
    """Load a case's engine, which serves several sizes. Raises as `load_engine` does."""
    return load_engine(case.engine, case.options, device=case.device, dtype=case.dtype)


def measure(case: Case, engine: Engine, *, repeats: int, between: Callable[[], None] | None = None) -> Result:
    """Run one case `repeats` times after a warm-up of one batch of tiles per stage.

    Args:
        case: what to measure.
        engine: from `load`, for this device and format.
        repeats: measured runs; the median counts.
        between: called before each of them: to time something else in turns, so that both see the same machine.
    """
    device, request = case.device, case.request()
    runtime = Runtime(device=device, batch_tiles=case.batch_tiles, tidy=give_back_freed_memory)
    dtype = getattr(torch, engine.spec.dtype)
    picture_01 = picture(case, engine)
    prepared = engine.prepare(Plane(picture_01), case.size_px, request)
    work = warm_up(engine, prepared, request, runtime)
    ours = prod(picture_01.shape[:2]) * prod(_cells(prepared.plane))
    buffers = 4 * (ours + prod(prepared.plane.sizes_px) * engine.spec.out_channels)
    del prepared

    reports: list[Report] = []
    seconds, cpu_seconds, rates, peaks = [], [], [], []
    memory = PeakMemory(device)
    for _ in range(repeats):
        if between is not None:
            between()
        rates.append(matrix_flops_per_second(device, dtype))
        memory.start()
        start, cpu_start = time.perf_counter(), time.process_time()
        reports.append(restore(engine, picture_01, request, runtime).report)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
        peaks.append(memory.above_start_bytes())
    flops, rate, middle = sum(stage.flops for stage in work), median(rates), median(seconds)
    peak = max((peak for peak in peaks if peak is not None), default=None)
    return Result(
        engine=case.engine,
        size=size_name(case.size_px),
        dtype=reports[0].dtype,
        device=reports[0].device,
        seconds=round(middle, 4),
        spread_seconds=round(max(seconds) - min(seconds), 4),
        all_seconds=tuple(round(s, 4) for s in seconds),
        cpu_seconds=round(median(cpu_seconds), 4),
        stages={
            stage.name: _stage_figures(stage, [report.stages[i] for report in reports])
            for i, stage in enumerate(work)
        },
        peak_mib=None if peak is None else round(peak / MIB),
        buffers_mib=round(buffers / MIB),
        tflop=round(flops / 1e12, 4),
        tflops=round(flops / 1e12 / middle, 4),
        matrix_tflops=round(rate / 1e12, 4),
        share_of_matrix_rate=round(flops / middle / rate, 4),
        weights=reports[0].weights,
        notes=reports[0].notes,
    )


def _stage_figures(work: StageWork, reports: list[StageReport]) -> StageFigures:
    seconds = median(report.seconds for report in reports)
    return StageFigures(
        kind=work.kind,
        seconds=round(seconds, 4),
        tiles=reports[0].tiles,
        batch=reports[0].batch,
        tflop=round(work.flops / 1e12, 4),
        tflops=round(work.flops / 1e12 / seconds, 4),
    )


def picture(case: Case, engine: Engine) -> torch.Tensor:
    """Return the case's input [1 c h w] in [0,1]: random numbers, because speed does not depend on them."""
    h, w = (side // case.scale for side in case.size_px)
    return torch.rand(1, engine.spec.in_channels, h, w, generator=torch.Generator().manual_seed(0))


def _cells(plane: Readable) -> tuple[int, ...]:
    return tuple(size // stride for size, stride in zip(plane.sizes_px, plane.strides, strict=True))


def size_name(size_px: tuple[int, int]) -> int | str:
    """Return how a size (height, width) is written: ``1024``, or ``4096x2048`` (width first)."""
    h, w = size_px
    return h if h == w else f"{w}x{h}"
