"""A chain of engines: pictures through it, and one report of all that was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .engines.base import Engine
from .engines.chain import Chain
from .engines.leaving import home_if_cut_short
from .errors import ConfigError, ShapeError
from .pipeline import Restored, restore
from .progress import Progress, Tick
from .request import Report, Request
from .runtime import Runtime
from .scenes.figures import AGAINST_TRUTH
from .tiling.geometry import Plane

_TINY_PX = 8


def restore_through(
    engine: Engine,
    image_01: Tensor,
    request: Request,
    runtime: Runtime,
    *,
    mask_01: Tensor | None = None,
    alpha_01: Tensor | None = None,
) -> Restored:
    """Restore a picture by an engine, or by a `Chain` of them; see `pipeline.restore`, also for the errors.

    Everything that can be known of a chain and a picture is checked before the first engine runs. Between two engines
    the picture stays float32. Where one of them fails or is cancelled, the networks of all of them leave the device.

    Raises:
        ConfigError: a chain is given a mask, or cannot make the size.
        ShapeError: an engine cannot take what the one before it makes.
    """
    if not isinstance(engine, Chain):
        return restore(engine, image_01, request, runtime, mask_01=mask_01, alpha_01=alpha_01)
    if mask_01 is not None:
        raise ConfigError("a chain of engines has no one input to mix its result with: leave the mask out")
    wishes = engine.requests(request)
    reports, image, alpha = [], image_01, alpha_01
    with home_if_cut_short(engine):
        _check(engine, image_01, wishes)
        for number, (link, wish) in enumerate(zip(engine.links, wishes, strict=True)):
            running = replace(runtime, progress=part_of(runtime.progress, number, len(wishes)))
            done = restore(link.engine, image, wish, running, alpha_01=alpha)
            reports.append(done.report)
            image, alpha = done.image_01, done.alpha_01
    return Restored(image, joined_report(engine, reports), alpha)


def part_of(progress: Progress, number: int, count: int) -> Progress:
    """Return the progress of one of `count` equal parts of a whole."""

    def told(tick: Tick) -> None:
        progress(replace(tick, whole=(number + tick.whole) / count))

    return told


def joined_report(chain: Chain, reports: Sequence[Report]) -> Report:
    """Return one report of a chain, of those of its links: stages and figures say whose they are."""
    stages, measures = [], {}
    for label, report in zip(chain.labels, reports, strict=True):
        stages += [replace(stage, name=f"{label}: {stage.name}") for stage in report.stages]
        measures |= {
            name if name in AGAINST_TRUTH else f"{label}: {name}": value
            for name, value in report.measures.items()
        }
    spec, peaks = chain.spec, [r.peak_device_bytes for r in reports if r.peak_device_bytes is not None]
    return replace(
        reports[-1],
        engine=spec.name,
        weights=spec.weights,
        licence=spec.licence,
        settings=spec.settings,
        dtype=spec.dtype,
        input_px=reports[0].input_px,
        stages=tuple(stages),
        seconds=sum(report.seconds for report in reports),
        edge_enhance=reports[0].edge_enhance,
        prompt=next((report.prompt for report in reports if report.prompt), ""),
        tags=tuple(tag for report in reports for tag in report.tags),
        measures=measures,
        notes=tuple(dict.fromkeys(note for report in reports for note in report.notes)),
        networks_bytes=spec.networks_bytes,
        peak_device_bytes=max(peaks) if peaks else None,
    )


def _check(chain: Chain, image_01: Tensor, wishes: Sequence[Request]) -> None:
    """Refuse a picture that a later engine could not take, or a size that it could not make."""
    channels, size = image_01.shape[1], (image_01.shape[-2], image_01.shape[-1])
    before = "the picture"
    for link, wish in zip(chain.links, wishes, strict=True):
        spec = link.engine.spec
        is_grey = channels == 1 and spec.in_channels == 3
        if spec.axes != 2:
            raise ConfigError(
                f"engine {spec.name!r} restores volumes of {spec.axes} axes, and this is a picture of 2"
            )
        if channels != spec.in_channels and not is_grey:
            raise ShapeError(
                f"engine {spec.name!r} takes {spec.in_channels} channel{'s' * (spec.in_channels > 1)}, and {before} has "
                f"{channels}; choose another order, or weights of {channels} channel{'s' * (channels > 1)}"
            )
        made = wish.target.size_for(*size, default_scale=spec.default_scale)
        if made != tuple(round(side * spec.default_scale) for side in size):
            _check_size(link.engine, wish, made[0] / size[0])
        channels, size = 1 if is_grey else spec.out_channels, made
        before = f"the result of {spec.name!r} before it"


def _check_size(engine: Engine, wish: Request, factor: float) -> None:
    """Let an engine prepare a tiny picture for a result that is larger by `factor`: it says if it cannot."""
    tiny = Plane(torch.zeros(1, engine.spec.in_channels, _TINY_PX, _TINY_PX))
    side = max(1, round(_TINY_PX * factor))
    engine.prepare(tiny, (side, side), wish)
