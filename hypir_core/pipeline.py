"""The spine: one photo walks through a short row of stages, tile by tile.

validate → size → prepare (pad onto the grain) → tiled stages (each inside the memory ladder) → crop → resize
→ colour fix → strength. Everything else in this project prepares this walk or reports on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .color.fix import apply_color_fix_
from .color.mode import ColorFix
from .device import describe_device
from .engines.base import Engine, Prepared
from .errors import RangeError, ShapeError
from .image.resize import resize, resize_part
from .request import Report, Request
from .runtime import Runtime
from .tiling.plan import TileConfig
from .tiling.run import StageReport, run_stage

BLOCK_PX = 512
"""Side of the blocks in which the finishing touches pass over the picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """A restored picture and how it came about."""

    image_01: Tensor
    """[b c H W] float32 in [0,1]."""
    report: Report


@torch.no_grad()
def restore(
    engine: Engine, image_01: Tensor, request: Request, runtime: Runtime, *, mask_01: Tensor | None = None
) -> Restored:
    """Restore a picture.

    Args:
        engine: from `engines.catalog.load_engine`.
        image_01: [b c h w] in [0,1], any floating format; c is the engine's channel count, or 1 for grey.
        request: what is asked for.
        runtime: device, memory, progress, cancellation.
        mask_01: optional [b|1 1 h w] in [0,1], multiplied into the request's strength: 0 keeps the input.

    Returns:
        The picture at exactly the requested size, float32 on the runtime's canvas device, and the report.

    Raises:
        ShapeError, RangeError: the picture or the mask is not what is stated above; or the networks give NaN.
        ConfigError: the size or the tiles cannot be had.
        OutOfMemoryError: even the last rung of the memory ladder was too much.
    """
    started = time.perf_counter()
    check_image(image_01, channels=engine.spec.channels)
    if mask_01 is not None:
        _check_mask(mask_01, image_01)
    image = image_01.float().to(runtime.canvas_device)
    grey = image.shape[1] == 1 and engine.spec.channels != 1
    size_px = request.target.size_for(*image.shape[-2:], default_scale=engine.spec.default_scale)
    tile = tile_for(request, engine.spec.tile)

    source = image.expand(-1, engine.spec.channels, -1, -1) if grey else image
    prepared = engine.prepare(source, size_px, request)
    before = _input_at_result_size(image, size_px, prepared)
    plane, stage_reports = prepared.plane, []
    for stage in engine.stages(prepared, request):
        plane, stage_report = run_stage(stage, plane, tile=tile, runtime=runtime)
        stage_reports.append(stage_report)

    content = plane.data_bchw[..., : prepared.content_px[0], : prepared.content_px[1]]
    content = resize(content.mean(1, keepdim=True) if grey else content, before.size_px)
    mode = request.color_fix if request.color_fix is not None else engine.spec.color_fix
    apply_color_fix_(content, before.part, mode=mode, strength=request.color_strength, block_px=BLOCK_PX)
    content.clamp_(0, 1)
    _blend_with_input_(content, before, request.strength, mask_01)
    report = Report(
        engine=engine.spec.name,
        weights=engine.spec.weights,
        input_px=(image.shape[-2], image.shape[-1]),
        output_px=before.size_px,
        device=describe_device(runtime.device),
        dtype=str(runtime.dtype).removeprefix("torch."),
        stages=tuple(stage_reports),
        seconds=time.perf_counter() - started,
        color_fix=mode.value,
        prompt=request.prompt if engine.spec.wants_prompt else "",
        seed=request.seed,
        notes=(*engine.spec.notes, *prepared.notes, *_stage_notes(stage_reports)),
        peak_device_bytes=torch.cuda.max_memory_allocated(runtime.device)
        if runtime.device.type == "cuda"
        else None,
    )
    return Restored(content, report)


def restore_alpha(
    engine: Engine, alpha_01: Tensor, request: Request, runtime: Runtime, *, size_px: tuple[int, int]
) -> Tensor:
    """Bring an alpha channel [b 1 h w] in [0,1] to `size_px`; returns [b 1 *size_px] float32 in [0,1].

    It goes through the engine as a grey picture where the engine may do that; an opaque one is only resized.
    Raises as `restore` does.
    """
    if bool(alpha_01.min() == 1) or not engine.spec.restores_alpha:
        return resize(alpha_01.float().to(runtime.canvas_device), size_px).clamp_(0, 1)
    return restore(engine, alpha_01, replace(request, color_fix=ColorFix.none), runtime).image_01


def check_image(image_01: Tensor, *, channels: int) -> None:
    """Raise unless the tensor is a picture: [b c h w], float, finite, in [0,1]."""
    if image_01.ndim != 4 or image_01.shape[1] not in {1, channels} or 0 in image_01.shape:
        raise ShapeError(
            f"expected a picture [b {channels} h w] or grey [b 1 h w], got {tuple(image_01.shape)}"
        )
    if not image_01.is_floating_point():
        raise RangeError(
            f"expected floating-point values in [0,1], got {image_01.dtype}; divide by 255 or 65535"
        )
    low, high = (float(v) for v in torch.aminmax(image_01))
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise RangeError(f"expected finite values in [0,1], got {low:g} to {high:g}")


def tile_for(request: Request, default: TileConfig) -> TileConfig:
    """Return the tiles a request asks for, the engine's own where it is silent.

    A smaller tile without a word about the overlap gets at most a quarter of its side as overlap.
    """
    tile_px = default.tile_px if request.tile_px is None else request.tile_px
    overlap_px = min(default.overlap_px, tile_px // 4) if request.overlap_px is None else request.overlap_px
    if request.tile_px is None and request.overlap_px is None:
        overlap_px = default.overlap_px
    return replace(default, tile_px=tile_px, overlap_px=overlap_px, window=request.window or default.window)


@dataclass(frozen=True, slots=True, eq=False)
class _Input:
    """The input at the result's size, made part by part."""

    size_px: tuple[int, int]
    part: Callable[[int, int, int, int], Tensor]
    """(y0, y1, x0, x1) → [b c y1−y0 x1−x0]"""


def _input_at_result_size(image: Tensor, size_px: tuple[int, int], prepared: Prepared) -> _Input:
    reference = prepared.reference_01
    if reference is None:
        return _Input(size_px, lambda y0, y1, x0, x1: resize_part(image, size_px, (y0, y1), (x0, x1)))
    reference = reference[:, : image.shape[1]]  # grey went through the engine as three equal channels
    return _Input(
        (reference.shape[-2], reference.shape[-1]), lambda y0, y1, x0, x1: reference[..., y0:y1, x0:x1]
    )


def _blend_with_input_(content: Tensor, before: _Input, strength: float, mask_01: Tensor | None) -> None:
    """Mix the result with the input, in place, in bands of rows; a mask [b|1 1 h w] multiplies the strength."""
    if strength == 1 and mask_01 is None:
        return
    height, width = before.size_px
    for y0 in range(0, height, BLOCK_PX):
        y1 = min(y0 + BLOCK_PX, height)
        amount: Tensor | float = strength
        if mask_01 is not None:
            mask = resize_part(mask_01.to(content.device), before.size_px, (y0, y1), (0, width))
            amount = strength * mask.clamp_(0, 1)
        old = before.part(y0, y1, 0, width).clamp(0, 1)
        content[..., y0:y1, :].sub_(old).mul_(amount).add_(old)


def _check_mask(mask_01: Tensor, image: Tensor) -> None:
    if mask_01.ndim != 4 or mask_01.shape[1] != 1 or mask_01.shape[-2:] != image.shape[-2:]:
        raise ShapeError(
            f"expected a mask [b|1 1 {image.shape[-2]} {image.shape[-1]}], got {tuple(mask_01.shape)}"
        )


def _stage_notes(reports: list[StageReport]) -> tuple[str, ...]:
    rungs = (f"{report.name}: out of memory, {rung}" for report in reports for rung in report.rungs)
    return (*rungs, *(note for report in reports for note in report.bad_tiles))
