"""One profiled run: which operations the time goes to."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from ..allocator import give_back_freed_memory
from ..engines.base import Engine
from ..pipeline import restore
from ..runtime import Runtime
from .run import Case, picture


def write_profile(case: Case, engine: Engine, path: Path) -> str:
    """Restore the case's picture once under torch's profiler.

    Args:
        case: what to run.
        engine: from `measure.run.load`.
        path: a chrome trace is written there, for chrome://tracing or ui.perfetto.dev.

    Returns:
        The fifteen operations that took the longest, as a table.
    """
    on_gpu = case.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    runtime = Runtime(device=case.device, batch_tiles=case.batch_tiles, tidy=give_back_freed_memory)
    with profile(activities=activities, record_shapes=True) as recorded:
        restore(engine, picture(case, engine), case.request(), runtime)
        if on_gpu:
            torch.cuda.synchronize(case.device)
    path.parent.mkdir(parents=True, exist_ok=True)
    recorded.export_chrome_trace(str(path))
    return recorded.key_averages().table(
        sort_by="self_cuda_time_total" if on_gpu else "self_cpu_time_total", row_limit=15
    )
