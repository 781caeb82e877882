"""The pictures of a batch through an engine: stage by stage, each part of the result written where it will stay.

A model that does not fit beside another one is then loaded once for the batch, not once for every picture, and a long
clip takes little more memory than its result. Between the stages there are latents, a fiftieth of the pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..hypir_core.engines.base import Engine
from ..hypir_core.pipeline import Begun, Restored, begin, finish
from ..hypir_core.progress import Progress, Tick
from ..hypir_core.request import Report, Request
from ..hypir_core.runtime import Runtime
from ..hypir_core.tiling.geometry import Plane, Readable
from ..hypir_core.tiling.memory import Ladder
from ..hypir_core.tiling.run import run_stage
from ..hypir_core.tiling.stage import Guide, Stage, StageReport
from ..hypir_core.tiling.whole_run import WholeRun
from .host import memory, progress

SMALL_BYTES = 64 << 20
"""Results of so many bytes are worked on together whatever part of the batch they are."""

PARTS = 16
"""A larger batch is worked on in at least so many parts: what is in work at a time is small beside the result."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Restored pictures and how each came about."""

    image_bhwc: Tensor
    reports: tuple[Report, ...]


def parts_of(pictures: int, result_bytes: int) -> list[slice]:
    """Return which pictures are worked on together, one by one on a CPU.

    Args:
        pictures: how many there are.
        result_bytes: of one's result.
    """
    together = 1
    if memory.device().type != "cpu":
        together = max(1, pictures // PARTS, SMALL_BYTES // max(1, result_bytes))
    return [slice(i, min(i + together, pictures)) for i in range(0, pictures, together)]


def restore_batch(
    engine: Engine,
    color: Tensor,
    request: Request,
    *,
    masks: Tensor | None = None,
    alpha: Tensor | None = None,
    each: Callable[[int], Engine] | None = None,
) -> Batch:
    """Restore pictures of one size.

    Args:
        engine: what restores.
        color: [b c h w] in [0,1].
        request: what is asked for.
        masks: [b 1 h w] in [0,1], multiplied into the strength.
        alpha: [b 1 h w] in [0,1].
        each: returns the engine of one picture of the batch, for engines that take one picture at a time and are told
            something of each; None: `engine` for all.

    Returns:
        The pictures, in the format in which ComfyUI passes pictures on, and one report for each.
    """
    started, pictures = time.perf_counter(), len(color)
    runtime = memory.runtime(progress.progress_bar(backdrop=color))
    height, width = request.target.size_for(*color.shape[-2:], default_scale=engine.spec.default_scale)
    parts = parts_of(pictures, height * width * (3 if alpha is None else 4) * 4)
    groups = [parts]
    if engine.spec.one_by_one:  # every picture has a condition, and so stages, of its own
        groups = [[slice(i, i + 1)] for i in range(pictures)]

    def begun(part: slice) -> Begun:
        mask, opacity = (None if plane is None else plane[part] for plane in (masks, alpha))
        ready = engine if each is None else each(part.start)
        return begin(ready, color[part], request, runtime, mask_01=mask, alpha_01=opacity)

    result = _Result(pictures)
    for group in groups:
        _run_group(group, begun, runtime, request, result)
    each_s = (time.perf_counter() - started) / pictures
    return Batch(
        image_bhwc=result.image,
        reports=tuple(replace(report, seconds=each_s) for report in result.reports),
    )


class _Result:
    """Takes finished pictures, part by part, to where they will stay."""

    def __init__(self, pictures: int):
        self.pictures = pictures
        self.image = torch.empty(0)
        self.reports: list[Report] = []

    def take(self, part: slice, done: Restored) -> None:
        """Copy one part's pictures."""
        if not self.reports:
            channels = 3 if done.alpha_01 is None else 4
            self.image = memory.new_image((self.pictures, *done.image_01.shape[-2:], channels))
        place = self.image[part]
        place[..., :3] = done.image_01.movedim(1, -1)  # grey becomes three equal channels
        if done.alpha_01 is not None:
            place[..., 3:] = done.alpha_01.movedim(1, -1)
        self.reports += [done.report] * len(done.image_01)


def _run_group(
    parts: Sequence[slice],
    begun: Callable[[slice], Begun],
    runtime: Runtime,
    request: Request,
    result: _Result,
) -> None:
    """Run the same stages over some parts, one stage after the other."""
    first = begun(parts[0])
    stages, ladder = first.stages, Ladder()
    planes: dict[int, Readable] = {}
    told: dict[int, list[StageReport]] = {part.start: [] for part in parts}
    if not stages:
        for part in parts:
            counted = _Counted(runtime, first, part, result.pictures)
            result.take(part, finish(begun(part), first.prepared.plane, (), runtime, counted.of))
    for number, stage in enumerate(stages):
        last = number == len(stages) - 1
        for part in parts:
            counted = _Counted(runtime, first, part, result.pictures)
            plane = planes.pop(part.start, None)
            of = first if len(parts) == 1 else begun(part) if last or plane is None else None
            if plane is None:
                assert of is not None
                plane = of.prepared.plane
            out, report = run_stage(
                for_pictures(stage, part),
                plane,
                wish=request.tile,
                runtime=replace(runtime, progress=counted.of(number)),
                ladder=ladder,
            )
            told[part.start].append(replace(report, seconds=report.seconds / (part.stop - part.start)))
            if last:
                assert of is not None
                result.take(part, finish(of, out, told[part.start], runtime, counted.of))
            else:
                planes[part.start] = out


class _Counted:
    """Counts how much of a batch is done, where every stage goes over all of it before the next begins."""

    def __init__(self, runtime: Runtime, begun: Begun, part: slice, pictures: int):
        self._runtime, self._begun, self._part, self._pictures = runtime, begun, part, pictures

    def of(self, number: int) -> Progress:
        """Return the progress callback of one stage of one part, or of a touch after the last of them."""
        whole = WholeRun(self._runtime.progress, self._begun.stages, touches=self._begun.touches)
        before, share = whole.span(number)
        done, size = self._part.start / self._pictures, (self._part.stop - self._part.start) / self._pictures

        def move(tick: Tick) -> None:
            part_done = tick.done / tick.total
            self._runtime.progress(replace(tick, whole=before + share * (done + size * part_done)))

        return move


def for_pictures(stage: Stage, part: slice) -> Stage:
    """Return a stage whose guides are those of some pictures of the batch; too few are begun anew, as ComfyUI does."""

    def of(guide: Guide) -> Guide:
        if not isinstance(guide, Plane) or guide.images == 1:
            return guide
        index = torch.arange(part.start, part.stop) % guide.images
        return Plane(guide.data[index], guide.strides)

    return replace(stage, guides={name: of(guide) for name, guide in stage.guides.items()})


def summary(reports: Sequence[Report]) -> str:
    """Return one line about a run for the node's face: a batch's too."""
    first = reports[0]
    (h, w), (out_h, out_w) = first.input_px[-2:], first.output_px[-2:]
    times = f"{len(reports)} × " if len(reports) > 1 else ""
    taken = progress.duration(sum(report.seconds for report in reports))
    return f"{times}{w}×{h} → {out_w}×{out_h} px · {first.engine} · {taken}"
