"""How much arithmetic a stage does: counted by running one batch of its tiles, which also warms everything up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..runtime import Runtime
from ..tiling.choose import choose_tiles
from ..tiling.geometry import Plane
from ..tiling.plan import TileConfig
from ..tiling.run import Stage, tile_inputs
from ..tiling.sample import crop_grid, take_sample
from .matrix_rate import synchronize


@dataclass(frozen=True, kw_only=True)
class StageWork:
    """What one stage has to do for one picture."""

    name: str
    tiles: int
    batch: int
    flops: int
    """Floating-point operations of all its tiles, and of the sample before them: 2 per multiplication with
    addition, of convolutions, matrix products and attention only."""


@torch.inference_mode()
def count_work(
    stages: Sequence[Stage], plane: Plane, *, tile: TileConfig, runtime: Runtime
) -> tuple[StageWork, ...]:
    """Run one batch of each stage's tiles, and its survey, and count, as planned for a picture.

    Args:
        stages: from `Engine.stages`.
        plane: the first stage's input; the others get random numbers of the right shape.
        tile: the tiles of stages that have none of their own.
        runtime: as the picture itself will be run.
    """
    found = []
    for stage in stages:
        stage.place(runtime.device)
        chosen = choose_tiles(
            stage, (plane.height_px, plane.width_px), tile=tile, runtime=runtime, device=runtime.device
        )
        boxes = chosen.plan.boxes
        batch = boxes[: chosen.batch]
        with FlopCounterMode(display=False) as of_batch:
            stage.run(*tile_inputs(stage, plane, batch, runtime.device))
        with FlopCounterMode(display=False) as of_sample:
            if stage.survey is not None and len(boxes) > 1:
                sample = take_sample(plane, crop_grid(chosen.plan, stage.survey.size))
                crops, guides = tile_inputs(stage, plane, sample.boxes, runtime.device)
                stage.survey.look(crops, guides, sample)
        synchronize(runtime.device)
        found.append(
            StageWork(
                name=stage.name,
                tiles=len(boxes),
                batch=chosen.batch,
                flops=of_batch.get_total_flops() * len(boxes) // len(batch) + of_sample.get_total_flops(),
            )
        )
        s = stage.out_stride_px
        shape = (plane.data_bchw.shape[0], stage.out_channels, plane.height_px // s, plane.width_px // s)
        plane = Plane(torch.rand(shape, generator=torch.Generator().manual_seed(0)), s)
    return tuple(found)
