"""Which tiles a stage gets on a device, and how many at a time: the one place that decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ..device import free_memory_bytes, tile_memory_bytes
from ..runtime import Runtime
from .memory import batch_that_fits
from .plan import TileConfig, TilePlan, plan_tiles
from .sample import crop_grid

if TYPE_CHECKING:
    from .run import Stage


@dataclass(frozen=True, slots=True)
class ChosenTiles:
    """The tiles of one stage for one canvas."""

    tile: TileConfig
    """What the plan was made of; the engine's own tiles may have been made smaller to fit."""
    plan: TilePlan
    batch: int
    """Tiles at a time."""

    @property
    def tile_area_px(self) -> int:
        """Output pixels of one tile."""
        return self.plan.rows[0][1] * self.plan.columns[0][1]


def choose_tiles(
    stage: Stage, canvas_px: tuple[int, int], *, tile: TileConfig, runtime: Runtime, device: torch.device
) -> ChosenTiles:
    """Lay a stage's tiles and choose its batch by the memory that is free now.

    Tiles that the request names are laid as asked. The engine's own (`Stage.tile`) shrink, grain by grain,
    until one of them fits; the overlap stays.

    Args:
        stage: what will be run.
        canvas_px: height and width, multiples of the stage's grain.
        tile: tiles of stages that have none of their own.
        runtime: says how many tiles at a time, or how much memory they may take.
        device: where it will run: not the runtime's after the memory ladder's last rung.

    Raises:
        ConfigError: the tile cannot be had.
    """
    limit = runtime.memory_budget_bytes
    chosen = stage.tile or tile
    plan = stage.plan or plan_tiles(*canvas_px, chosen, grain_px=stage.grain_px)
    if stage.tile is not None and stage.plan is None:
        room = tile_memory_bytes(device) if limit is None else limit
        smallest = max(stage.min_tile_px, chosen.overlap_px + stage.grain_px)
        while _tile_bytes(stage, plan) > room and chosen.tile_px - stage.grain_px >= smallest:
            chosen = replace(chosen, tile_px=chosen.tile_px - stage.grain_px)
            plan = plan_tiles(*canvas_px, chosen, grain_px=stage.grain_px)
    batch = runtime.batch_tiles
    if batch is None:
        area = plan.rows[0][1] * plan.columns[0][1]
        room = free_memory_bytes(device) if limit is None else limit
        batch = batch_that_fits(area, stage.bytes_per_px, room)
    return ChosenTiles(chosen, plan, min(batch, len(plan.boxes)))


def _tile_bytes(stage: Stage, plan: TilePlan) -> float:
    return working_area_px(stage, plan) * stage.bytes_per_px


def working_area_px(stage: Stage, plan: TilePlan, *, batch: int = 1) -> int:
    """Return how many output pixels a stage works on at a time: a batch of tiles, or the sample before them."""
    tiles = batch * plan.rows[0][1] * plan.columns[0][1]
    if stage.survey is None or len(plan.boxes) == 1:
        return tiles
    return max(tiles, crop_grid(plan, stage.survey.size).area_px)
