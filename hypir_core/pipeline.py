"""The spine: one photo walks through a short row of stages, tile by tile.

validate → size → prepare (pad onto the grain) → tiled stages (each inside the memory ladder) → crop → resize
→ colour fix → strength. Everything else in this project prepares this walk or reports on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .color.fix import apply_color_fix_
from .color.mode import ColorFix
from .device import describe_device
from .engines.base import Engine, EngineSpec, Prepared
from .errors import ConfigError, RangeError, ShapeError
from .image.alpha import fill_transparent
from .image.resize import resize, resize_part
from .progress import Progress
from .request import Report, Request
from .runtime import Runtime
from .tiling.choose import lay_tiles
from .tiling.geometry import Plane
from .tiling.memory import Ladder
from .tiling.run import run_stage
from .tiling.stage import Stage, StageReport

BLOCK_PX = 512
"""Side of the blocks in which the finishing touches pass over the picture."""

FINISH_SHARE = 0.05
"""Of the colour fix, in parts of the stages before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """A restored picture and how it came about."""

    image_01: Tensor
    """[b c H W] float32 in [0,1]."""
    report: Report
    alpha_01: Tensor | None = None
    """[b 1 H W] float32 in [0,1], where one was given."""


@torch.no_grad()
def restore(
    engine: Engine,
    image_01: Tensor,
    request: Request,
    runtime: Runtime,
    *,
    mask_01: Tensor | None = None,
    alpha_01: Tensor | None = None,
) -> Restored:
    """Restore a picture.

    Args:
        engine: from `engines.catalog.load_engine`.
        image_01: [b c h w] in [0,1], any floating format; c is the engine's channel count, or 1 for grey.
        request: what is asked for.
        runtime: device, memory, progress, cancellation.
        mask_01: optional [b|1 1 h w] in [0,1], multiplied into the request's strength: 0 keeps the input.
        alpha_01: optional [b 1 h w] in [0,1], not premultiplied: colour that nobody sees is filled from what is seen
            beside it, and the alpha channel is restored for itself.

    Returns:
        The picture at exactly the requested size, float32 on the runtime's canvas device, and the report.

    Raises:
        ShapeError, RangeError: the picture or the mask is not what is stated above; or the networks give NaN.
        ConfigError: the size or the tiles cannot be had, or the engine gives other channels than it takes and is asked
            to mix both.
        OutOfMemoryError: even the last rung of the memory ladder was too much.
    """
    started = time.perf_counter()
    check_image(image_01, engine.spec)
    _check_mixing(engine.spec, request, mask_01)
    for name, plane in (("mask", mask_01), ("alpha channel", alpha_01)):
        _check_one_channel(name, plane, image_01)
    image = image_01.float().to(runtime.canvas_device)
    if alpha_01 is not None:
        image = fill_transparent(image, alpha_01.to(image))
    channels = engine.spec.in_channels
    grey = image.shape[1] == 1 and channels != 1
    size_px = request.target.size_for(*image.shape[-2:], default_scale=engine.spec.default_scale)

    source = image.expand(-1, channels, -1, -1) if grey else image
    prepared = engine.prepare(Plane(source), size_px, request)
    before = _input_at_result_size(image, size_px, prepared)
    mode = request.color_fix if request.color_fix is not None else engine.spec.color_fix
    stages = engine.stages(prepared, request)
    progress = _WholeRun(runtime.progress, stages, finishing=mode is not ColorFix.none)
    reports, plane, ladder = [], prepared.plane, Ladder()
    for number, stage in enumerate(stages):
        running = replace(runtime, progress=progress.of(number))
        plane, report = run_stage(stage, plane, wish=request.tile, runtime=running, ladder=ladder)
        reports.append(report)
    assert isinstance(plane, Plane)

    content = plane.data[..., : prepared.content_px[0], : prepared.content_px[1]]
    content = resize(content.mean(1, keepdim=True) if grey else content, before.size_px)
    apply_color_fix_(
        content,
        before.part,
        mode=mode,
        strength=request.color_strength,
        block_px=BLOCK_PX,
        progress=progress.of(len(stages)),
        should_stop=runtime.should_stop,
    )
    content.clamp_(0, 1)
    _blend_with_input_(content, before, request.strength, mask_01)
    report = make_report(
        engine.spec,
        request,
        runtime,
        prepared=prepared,
        stages=reports,
        input_px=image.shape[-2:],
        output_px=before.size_px,
        seconds=time.perf_counter() - started,
        color_fix=mode,
    )
    alpha = None
    if alpha_01 is not None:
        alpha = _restore_alpha(engine, alpha_01, request, runtime, size_px=before.size_px)
    return Restored(content, report, alpha)


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
        settings=spec.settings,
        dtype=spec.dtype,
        input_px=tuple(input_px),
        output_px=tuple(output_px),
        device=describe_device(runtime.device),
        stages=tuple(stages),
        seconds=seconds,
        color_fix=color_fix.value,
        prompt=request.prompt if spec.wants_prompt else "",
        seed=request.seed,
        notes=(*spec.notes, *prepared.notes, *_stage_notes(stages)),
        peak_device_bytes=torch.cuda.max_memory_allocated(runtime.device) if on_gpu else None,
    )


def _restore_alpha(
    engine: Engine, alpha_01: Tensor, request: Request, runtime: Runtime, *, size_px: tuple[int, int]
) -> Tensor:
    """Bring an alpha channel [b 1 h w] in [0,1] to `size_px`; returns [b 1 *size_px] float32 in [0,1].

    It goes through the engine as a grey picture where the engine may do that; an opaque one is only resized.
    """
    alpha = alpha_01.float().to(runtime.canvas_device)
    if bool(alpha.min() == 1) or not engine.spec.restores_alpha:
        return resize(alpha, size_px).clamp_(0, 1)
    return restore(engine, alpha, replace(request, color_fix=ColorFix.none), runtime).image_01


def check_tiles(engine: Engine, request: Request) -> None:
    """Lay the tiles that a request asks for over a canvas that needs many, without running anything.

    Raises:
        ConfigError: no picture could have them.
    """
    spec = engine.spec
    tiny = Plane(torch.zeros(1, spec.in_channels, *[8] * spec.axes))
    size_px = tuple(round(8 * spec.default_scale) for _ in range(spec.axes))
    prepared = engine.prepare(tiny, size_px, request)
    for stage in engine.stages(prepared, request):
        lay_tiles(stage, prepared.plane.sizes_px, wish=request.tile, runtime=Runtime(batch_tiles=1))


def check_image(image_01: Tensor, spec: EngineSpec) -> None:
    """Raise unless the tensor is a picture that the engine takes: [b c h w], float, finite, in [0,1]."""
    if spec.axes != 2:
        raise ConfigError(
            f"engine {spec.name!r} restores volumes of {spec.axes} axes, and this is a picture of 2"
        )
    channels = spec.in_channels
    if image_01.ndim != 4 or 0 in image_01.shape:
        raise ShapeError(f"expected a picture [b {channels} h w], got {tuple(image_01.shape)}")
    if image_01.shape[1] != channels and (image_01.shape[1] != 1 or channels != 3):
        given = image_01.shape[1]
        raise ShapeError(
            f"engine {spec.name!r} takes {channels} channel{'s' * (channels > 1)}, the picture has {given}; choose "
            f"weights made for {given} channel{'s' * (given > 1)}, or give a picture of {channels}"
        )
    if not image_01.is_floating_point():
        raise RangeError(
            f"expected floating-point values in [0,1], got {image_01.dtype}; divide by 255 or 65535"
        )
    low, high = (float(v) for v in torch.aminmax(image_01))
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise RangeError(f"expected finite values in [0,1], got {low:g} to {high:g}")


def _check_mixing(spec: EngineSpec, request: Request, mask_01: Tensor | None) -> None:
    """Refuse what mixes input and result where their channels differ."""
    wants = {
        "a strength below 1": request.strength != 1,
        "a mask": mask_01 is not None,
        "a colour fix": request.color_fix not in {None, ColorFix.none},
    }
    if spec.in_channels != spec.out_channels and (asked := [name for name, it in wants.items() if it]):
        raise ConfigError(
            f"engine {spec.name!r} makes {spec.out_channels} channels of {spec.in_channels}: "
            f"{' and '.join(asked)} would mix them; leave it out"
        )


def _check_one_channel(name: str, plane: Tensor | None, image: Tensor) -> None:
    if plane is not None and (plane.ndim != 4 or plane.shape[1] != 1 or plane.shape[-2:] != image.shape[-2:]):
        h, w = image.shape[-2:]
        raise ShapeError(
            f"expected the {name} as large as the picture, [b|1 1 {h} {w}], got {tuple(plane.shape)}"
        )


class _WholeRun:
    """Counts how much of a whole run is done, from the stages' shares."""

    def __init__(self, progress: Progress, stages: Sequence[Stage], *, finishing: bool):
        shares = [stage.share for stage in stages]
        shares.append(FINISH_SHARE * sum(shares) if finishing else 0.0)
        self._progress, self._shares = progress, [share / sum(shares) for share in shares]

    def of(self, number: int) -> Progress:
        """Return the progress callback of one stage."""
        before, share = sum(self._shares[:number]), self._shares[number]
        return lambda tick: self._progress(replace(tick, whole=before + share * tick.done / tick.total))


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


def _stage_notes(reports: Sequence[StageReport]) -> tuple[str, ...]:
    rungs = (f"{report.name}: out of memory, {rung}" for report in reports for rung in report.rungs)
    return (*rungs, *(note for report in reports for note in report.bad_tiles))
