"""Which tiles a stage gets on a device, and how many at a time: the one place that decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..device import free_memory_bytes, tile_memory_bytes
from ..runtime import Runtime
from .geometry import per_axis
from .memory import Rung, tiles_that_fit
from .plan import TilePlan, TileWish, plan_tiles, smaller, wished
from .sample import CropGrid, crop_grid
from .stage import Stage


@dataclass(frozen=True, slots=True)
class Layout:
    """How one stage is laid over one canvas: what is run, printed and benchmarked."""

    rung: Rung
    """Tiles, how many at a time, where."""
    plan: TilePlan
    crops: CropGrid | None
    """The sample that is looked at before the tiles; None where there is one tile or nothing to look for."""

    @property
    def working_area_px(self) -> int:
        """Output pixels in work at a time: a batch of tiles, or the sample before them."""
        tiles = self.rung.batch * self.rung.images * self.plan.tile_area_px
        return tiles if self.crops is None else max(tiles, self.rung.images * self.crops.area_px)


def lay_tiles(
    stage: Stage,
    sizes_px: Sequence[int],
    *,
    images: int = 1,
    wish: TileWish | None = None,
    runtime: Runtime,
    device: torch.device | None = None,
) -> Layout:
    """Combine wish, stage, memory and canvas.

    Tiles that the wish names are laid as asked, unless they may shrink. A stage's own shrink, grain
    by grain, until one of them fits into memory; the overlap stays. Then as many images and tiles are taken at a time
    as fit.

    Args:
        stage: what will be run.
        sizes_px: size of the canvas, multiples of the stage's grain.
        images: how many images lie on each other.
        wish: what the user says about tiles.
        runtime: says how many tiles at a time, or how much memory they may take.
        device: where it will run: not the runtime's after the memory ladder's last rung.

    Raises:
        ConfigError: the tile cannot be had.
    """
    wish, device, axes = wish or TileWish(), device or runtime.device, len(sizes_px)
    limit = runtime.memory_budget_bytes
    tile = wished(wish, stage.tile, axes=axes)
    layout = laid(stage, sizes_px, Rung(tile=tile, batch=1, images=1, device=device))
    if stage.plan is None and not wish.names_tiles:
        room = tile_memory_bytes(device) if limit is None else limit
        least = tuple(
            max(smallest, overlap + grain)
            for smallest, overlap, grain in zip(
                per_axis(stage.min_tile_px, axes),
                tile.sides(axes)[1],
                per_axis(stage.grain_px, axes),
                strict=True,
            )
        )
        while layout.working_area_px * stage.bytes_per_px > room:
            shorter = smaller(layout.rung.tile, axes, by_px=stage.grain_px, least_px=least)
            if shorter is None:
                break
            layout = laid(stage, sizes_px, replace(layout.rung, tile=shorter))
    room = free_memory_bytes(device) if limit is None else limit
    fitting = tiles_that_fit(layout.plan.tile_area_px, stage.bytes_per_px, room)
    at_once = min(images, fitting, runtime.batch_images or images)
    batch = fitting // at_once if runtime.batch_tiles is None else runtime.batch_tiles
    batch = min(batch, len(layout.plan.boxes))
    return replace(layout, rung=replace(layout.rung, batch=batch, images=at_once))


def laid(stage: Stage, sizes_px: Sequence[int], rung: Rung) -> Layout:
    """Return the layout of a stage on one rung of the memory ladder."""
    plan = stage.plan or plan_tiles(sizes_px, rung.tile, grain_px=stage.grain_px)
    sampled = stage.sampling is not None and len(plan.boxes) > 1
    return Layout(rung, plan, crop_grid(plan, stage.sampling.size) if sampled and stage.sampling else None)
