"""One profiled run: how long every stage takes and how much memory, and which operations the time goes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from ..allocator import give_back_freed_memory
from ..engines.base import Engine
from ..pipeline import restore
from ..progress import Tick
from ..runtime import Runtime
from .memory import MIB, PeakMemory
from .run import Case, picture


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """What a profiled run tells."""

    stages: tuple[StageProfile, ...]
    operations: str
    """The fifteen that took the longest, as a table."""


@dataclass(frozen=True, kw_only=True)
class StageProfile:
    """One stage of it."""

    name: str
    seconds: float
    """The profiler's own work is in it."""
    peak_mib: int | None
    """Highest memory, weights and all, from the end of the stage before; None where it cannot be measured."""


@dataclass(eq=False)
class _Peaks:
    """Takes down the peak of every stage as its last tile is done."""

    memory: PeakMemory
    of: dict[str, int] = field(default_factory=dict)
    """Stage → bytes."""

    def tick(self, tick: Tick) -> None:
        if tick.done == tick.total and (peak := self.memory.peak_bytes()) is not None:
            self.of[tick.stage] = max(peak, self.of.get(tick.stage, 0))
            self.memory.start()


def write_profile(case: Case, engine: Engine, path: Path) -> Profiled:
    """Restore the case's picture once under torch's profiler.

    Args:
        case: what to run.
        engine: from `measure.run.load`.
        path: a chrome trace is written there, for chrome://tracing or ui.perfetto.dev.
    """
    on_gpu = case.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    peaks = _Peaks(PeakMemory(case.device))
    runtime = Runtime(
        device=case.device,
        batch_tiles=case.batch_tiles,
        tidy=give_back_freed_memory,
        progress=peaks.tick,
    )
    peaks.memory.start()
    with profile(activities=activities, record_shapes=True) as recorded:
        report = restore(engine, picture(case, engine), case.request(), runtime).report
        if on_gpu:
            torch.cuda.synchronize(case.device)
    path.parent.mkdir(parents=True, exist_ok=True)
    recorded.export_chrome_trace(str(path))
    stages = tuple(
        StageProfile(
            name=stage.name,
            seconds=round(stage.seconds, 4),
            peak_mib=round(peaks.of[stage.name] / MIB) if stage.name in peaks.of else None,
        )
        for stage in report.stages
    )
    table = recorded.key_averages().table(
        sort_by="self_cuda_time_total" if on_gpu else "self_cpu_time_total", row_limit=15
    )
    return Profiled(stages=stages, operations=table)
