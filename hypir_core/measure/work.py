"""How much arithmetic a run does: its stages, one after the other, on inputs of the right shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..engines.base import Engine, Prepared
from ..request import Request
from ..runtime import Runtime
from ..tiling.choose import Layout, lay_tiles
from ..tiling.geometry import Box, Plane
from ..tiling.inputs import made, tile_inputs
from ..tiling.run import out_cells
from ..tiling.sample import take_sample
from ..tiling.stage import Stage
from .matrix_rate import synchronize

META = torch.device("meta")


@dataclass(frozen=True, kw_only=True, eq=False)
class LaidStage:
    """One stage of a run, as it will be run."""

    stage: Stage
    plane: Plane
    """Its input; only its shape and format count."""
    layout: Layout

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return len(self.layout.plan.boxes)

    def flops(self) -> int:
        """Count the floating-point operations of all tiles, and of the sample before them, without running them.

        2 per multiplication with addition, of convolutions, matrix products and attention only.
        """
        shape = (
            self.plane
            if self.plane.data.device == META
            else Plane(self.plane.data.to(META), self.plane.strides)
        )
        total = _tile_flops(self.stage, shape, self.layout.plan.boxes[0]) * self.tiles
        crops = self.layout.crops
        if crops is not None:
            side = (crops.side_px,) * shape.axes
            total += _tile_flops(self.stage, shape, Box((0,) * shape.axes, side)) * crops.count
        return total * self.plane.images


def lay_run(engine: Engine, prepared: Prepared, request: Request, runtime: Runtime) -> Iterator[LaidStage]:
    """Yield the stages of one picture with the tiles that they would get, each with an input of the right shape.

    Later inputs hold random numbers, or none on the meta device. Weights are placed as in a run.
    """
    plane = prepared.plane
    assert isinstance(plane, Plane)
    for stage in engine.stages(prepared, request):
        on_meta = plane.data.device == META
        if not on_meta:
            stage.place(runtime.device)
        layout = lay_tiles(stage, plane.sizes_px, images=plane.images, wish=request.tile, runtime=runtime)
        yield LaidStage(stage=stage, plane=plane, layout=layout)
        shape = (plane.images, stage.out_channels, *out_cells(stage, plane.sizes_px))
        out = Plane(_numbers(shape, on_meta=on_meta), stage.out_strides)
        plane = out if stage.after is None else stage.after(plane, out)


@dataclass(frozen=True, kw_only=True)
class StageWork:
    """What one stage has to do for one picture."""

    name: str
    kind: str
    flops: int


@torch.no_grad()
def warm_up(engine: Engine, prepared: Prepared, request: Request, runtime: Runtime) -> tuple[StageWork, ...]:
    """Run one batch of each stage's tiles, and its sample, as planned for a picture, and count their arithmetic."""
    return tuple(_run_batch(laid, runtime) for laid in lay_run(engine, prepared, request, runtime))


def _run_batch(laid: LaidStage, runtime: Runtime) -> StageWork:
    stage, rung, boxes = laid.stage, laid.layout.rung, laid.layout.plan.boxes
    plane = laid.plane.of_images(slice(0, rung.images))
    guides = {name: guide.of_images(slice(0, rung.images)) for name, guide in made(stage.guides).items()}
    batch = boxes[: rung.batch]
    with FlopCounterMode(display=False) as of_batch:
        stage.run(*tile_inputs(guides, plane, batch, runtime.device))
    with FlopCounterMode(display=False) as of_sample:
        if stage.sampling is not None and laid.layout.crops is not None:
            sample = take_sample(plane, laid.layout.crops)
            stage.sampling.look(*tile_inputs(guides, plane, sample.boxes, runtime.device), sample)
    synchronize(runtime.device)
    flops = of_batch.get_total_flops() * len(boxes) // len(batch) + of_sample.get_total_flops()
    return StageWork(name=stage.name, kind=stage.kind, flops=flops * laid.plane.images // rung.images)


def _tile_flops(stage: Stage, plane: Plane, box: Box) -> int:
    one = plane.of_images(slice(0, 1))
    guides = {name: guide.crop(box).to(META) for name, guide in made(stage.guides).items()}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        stage.run(one.crop(box), guides)
    return counter.get_total_flops()


def _numbers(shape: tuple[int, ...], *, on_meta: bool) -> Tensor:
    return (
        torch.empty(shape, device=META)
        if on_meta
        else torch.rand(shape, generator=torch.Generator().manual_seed(0))
    )
