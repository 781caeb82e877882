"""What is told about a finished run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .color.mode import ColorFix
from .device import describe_device
from .engines.base import EngineSpec, Prepared
from .request import Report, Request
from .runtime import Runtime
from .tiling.stage import StageReport


def make_report(
    spec: EngineSpec,
    request: Request,
    runtime: Runtime,
    *,
    prepared: Prepared,
    stages: Sequence[StageReport],
    input_px: Sequence[int],
    output_px: Sequence[int],
    seconds: float,
    color_fix: ColorFix,
) -> Report:
    """Return the report of a finished run; what the engine is, comes from its spec alone."""
    on_gpu = runtime.device.type == "cuda"
    return Report(
        engine=spec.name,
        weights=spec.weights,
        licence=spec.licence,
        settings=spec.settings,
        dtype=spec.dtype,
        input_px=tuple(input_px),
        output_px=tuple(output_px),
        device=describe_device(runtime.device),
        stages=tuple(stages),
        seconds=seconds,
        color_fix=color_fix.value,
        edge_enhance=request.edge_enhance,
        sharpen=request.sharpen,
        prompt=(prepared.prompt or request.prompt) if spec.wants_prompt else "",
        seed=request.seed,
        tags=prepared.tags,
        networks_bytes=spec.networks_bytes,
        notes=(*strength_notes(request), *spec.notes, *prepared.notes, *_stage_notes(stages)),
        peak_device_bytes=torch.cuda.max_memory_allocated(runtime.device) if on_gpu else None,
    )


def strength_notes(request: Request) -> tuple[str, ...]:
    """Return what a report says where a strength of 0 left nothing to do."""
    return () if request.strength > 0 else ("strength 0: the networks did not run",)


def _stage_notes(reports: Sequence[StageReport]) -> tuple[str, ...]:
    rungs = (f"{report.name}: out of memory, {rung}" for report in reports for rung in report.rungs)
    return (*rungs, *(note for report in reports for note in report.bad_tiles))
