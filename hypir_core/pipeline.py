"""The spine: one photo walks through a short row of stages, tile by tile.

validate → size → edges → prepare (pad onto the grain) → tiled stages (each inside the memory ladder) → crop → resize
→ colour fix → sharpen → strength. Everything else in this project prepares this walk or reports on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .checks import check_image, check_mixing, check_one_channel
from .color.fix import apply_color_fix_
from .color.mode import ColorFix
from .engines.base import Engine, Prepared
from .engines.leaving import leaving_when_it_ends_early
from .finishing import BLOCK_PX, check_luma, edges_enhanced, sharpen_
from .image.alpha import fill_transparent
from .image.resize import resize
from .mixing import blend_with_input_, input_at_result_size
from .progress import Progress, Tick, silent
from .reporting import make_report
from .request import Report, Request
from .runtime import Runtime
from .tiling.geometry import Plane, Readable
from .tiling.memory import Ladder
from .tiling.run import run_stage
from .tiling.stage import Stage, StageReport
from .tiling.whole_run import WholeRun


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """A restored picture and how it came about."""

    image_01: Tensor
    """[b c H W] float32 in [0,1]."""
    report: Report
    alpha_01: Tensor | None = None
    """[b 1 H W] float32 in [0,1], where one was given."""


@leaving_when_it_ends_early
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
    if engine.spec.one_by_one and len(image_01) > 1:
        return _one_by_one(engine, image_01, request, runtime, mask_01=mask_01, alpha_01=alpha_01)
    begun = begin(engine, image_01, request, runtime, mask_01=mask_01, alpha_01=alpha_01)
    progress = WholeRun(runtime.progress, begun.stages, touches=begun.touches)
    reports, plane, ladder = [], begun.prepared.plane, Ladder()
    for number, stage in enumerate(begun.stages):
        running = replace(runtime, progress=progress.of(number))
        plane, report = run_stage(stage, plane, wish=request.tile, runtime=running, ladder=ladder)
        reports.append(report)
        runtime.inspect(stage.name, plane.data, report.seconds)
    return finish(begun, plane, reports, runtime, progress.of)


@dataclass(frozen=True, kw_only=True, eq=False)
class Begun:
    """Pictures that are ready for the stages of an engine."""

    engine: Engine
    request: Request
    image_01: Tensor
    """[b c h w] on the runtime's canvas device, with colour where nobody sees it filled in."""
    prepared: Prepared
    stages: tuple[Stage, ...]
    """None at strength 0: nothing would be seen of them."""
    color_fix: ColorFix
    size_px: tuple[int, int]
    """Of the result."""
    started: float
    mask_01: Tensor | None = None
    alpha_01: Tensor | None = None

    @property
    def touches(self) -> tuple[bool, bool]:
        """Which touches follow the stages: a colour fix, sharpening."""
        return self.color_fix is not ColorFix.none, self.request.sharpen > 0

    @property
    def is_grey(self) -> bool:
        """Whether the picture's one channel stands for several equal ones."""
        return self.image_01.shape[1] == 1 and self.engine.spec.in_channels != 1


def begin(
    engine: Engine,
    image_01: Tensor,
    request: Request,
    runtime: Runtime,
    *,
    mask_01: Tensor | None = None,
    alpha_01: Tensor | None = None,
) -> Begun:
    """Check pictures and make them ready; arguments and errors are those of `restore`."""
    started, channels = time.perf_counter(), engine.spec.in_channels
    check_image(image_01, engine.spec)
    check_mixing(engine.spec, request, mask_01)
    check_luma(
        edge_enhance=(request.edge_enhance, channels), sharpen=(request.sharpen, engine.spec.out_channels)
    )
    for name, plane in (("mask", mask_01), ("alpha channel", alpha_01)):
        check_one_channel(name, plane, image_01)
    image = image_01.float().to(runtime.canvas_device)
    if alpha_01 is not None:
        image = fill_transparent(image, alpha_01.to(image))
    grey = image.shape[1] == 1 and channels != 1
    size_px = request.target.size_for(*image.shape[-2:], default_scale=engine.spec.default_scale)
    source = edges_enhanced(image, request.edge_enhance)
    source = source.expand(-1, channels, -1, -1) if grey else source
    prepared = engine.prepare(Plane(source), size_px, request)
    if isinstance(prepared.plane, Plane):
        runtime.inspect("prepare", prepared.plane.data, time.perf_counter() - started)
    return Begun(
        engine=engine,
        request=request,
        image_01=image,
        prepared=prepared,
        stages=tuple(engine.stages(prepared, request)) if request.strength > 0 else (),
        color_fix=request.color_fix if request.color_fix is not None else engine.spec.color_fix,
        size_px=size_px,
        started=started,
        mask_01=mask_01,
        alpha_01=alpha_01,
    )


@torch.no_grad()
def finish(
    begun: Begun,
    plane: Readable,
    stages: Sequence[StageReport],
    runtime: Runtime,
    progress: Callable[[int], Progress],
) -> Restored:
    """Crop, resize, fix colours and mix with the input what an engine's stages made; see `restore`.

    Args:
        begun: what the stages began with.
        plane: the last one's result; not looked at where there were none.
        stages: how they went.
        runtime: as for the stages.
        progress: returns the callback of each touch: they are numbered on from the stages.
    """
    request, prepared, mode = begun.request, begun.prepared, begun.color_fix
    before = input_at_result_size(begun.image_01, begun.size_px, prepared)

    def fixed(picture: Tensor) -> Tensor:
        apply_color_fix_(
            picture,
            before.part,
            mode=mode,
            strength=request.color_strength,
            block_px=BLOCK_PX,
            progress=progress(len(begun.stages)),
            should_stop=runtime.should_stop,
        )
        return picture.clamp_(0, 1)

    if begun.stages:
        assert isinstance(plane, Plane)
        content = plane.data[..., : prepared.content_px[0], : prepared.content_px[1]]
        content = resize(content.mean(1, keepdim=True) if begun.is_grey else content, before.size_px)
        content = fixed(content) if prepared.finish is None else prepared.finish(content, mode, fixed)
        sharpening = progress(len(begun.stages) + 1)
        sharpen_(content, request.sharpen, progress=sharpening, should_stop=runtime.should_stop)
        blend_with_input_(content, before, request.strength, begun.mask_01)
    else:
        content, mode = before.part(0, before.size_px[0], 0, before.size_px[1]).clamp(0, 1), ColorFix.none
    if prepared.last is not None:
        content = prepared.last(content)
    runtime.inspect("result", content, time.perf_counter() - begun.started)
    report = make_report(
        begun.engine.spec,
        request,
        runtime,
        prepared=prepared,
        stages=stages,
        input_px=begun.image_01.shape[-2:],
        output_px=content.shape[-2:],
        seconds=time.perf_counter() - begun.started,
        color_fix=mode,
    )
    alpha = None
    if begun.alpha_01 is not None:
        h, w = content.shape[-2:]
        alpha = _restore_alpha(
            begun.engine, begun.alpha_01, request, replace(runtime, progress=silent), size_px=(h, w)
        )
    return Restored(content, report, alpha)


def _one_by_one(
    engine: Engine,
    image_01: Tensor,
    request: Request,
    runtime: Runtime,
    *,
    mask_01: Tensor | None,
    alpha_01: Tensor | None,
) -> Restored:
    """Restore the pictures of a batch one after the other; the report is the first's, with all seconds and notes."""

    def of(part: Tensor | None, number: int) -> Tensor | None:
        return None if part is None else part[number : number + 1] if len(part) > 1 else part

    done: list[Restored] = []
    for i in range(len(image_01)):
        # Counted over the batch: each picture is an equal part of the whole.
        def told(tick: Tick, before: int = i) -> None:
            runtime.progress(replace(tick, whole=(before + tick.whole) / len(image_01)))

        one = restore(
            engine,
            image_01[i : i + 1],
            request,
            replace(runtime, progress=told),
            mask_01=of(mask_01, i),
            alpha_01=of(alpha_01, i),
        )
        done.append(one)
    alphas = [one.alpha_01 for one in done if one.alpha_01 is not None]
    report = replace(
        done[0].report,
        seconds=sum(one.report.seconds for one in done),
        notes=tuple(dict.fromkeys(note for one in done for note in one.report.notes)),
    )
    return Restored(torch.cat([one.image_01 for one in done]), report, torch.cat(alphas) if alphas else None)


def _restore_alpha(
    engine: Engine, alpha_01: Tensor, request: Request, runtime: Runtime, *, size_px: tuple[int, int]
) -> Tensor:
    """Bring an alpha channel [b 1 h w] in [0,1] to `size_px`; returns [b 1 *size_px] float32 in [0,1].

    It goes through the engine as a grey picture where the engine may do that; an opaque one is only resized.
    """
    alpha = alpha_01.float().to(runtime.canvas_device)
    if bool(alpha.min() == 1) or not engine.spec.restores_alpha or request.strength == 0:
        return resize(alpha, size_px).clamp_(0, 1)
    plain = replace(request, color_fix=ColorFix.none, edge_enhance=0.0, sharpen=0.0)
    return restore(engine, alpha, plain, runtime).image_01
