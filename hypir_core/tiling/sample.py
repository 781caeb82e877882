"""A sample of a picture that stands for the whole of it, before its tiles are run.

The picture is cut into strata, an even grid, and of each stratum the most typical crop is taken: the one nearest to
it in what is cheap to know (brightness, contrast, edges). Crops do not count alike: their weights are chosen so that the
same features of the whole picture come out right. This is a calibration estimator (Deville and Särndal,
"Calibration estimators in survey sampling", JASA 87, 1992), with a ridge so that no crop counts for all. The crops
are together as large as the stage says, in parts of a tile; the plan counts their time and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from .geometry import Box, Plane
from .plan import TilePlan


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """How large a sample should be."""

    crop_px: int
    """Side of a crop, in output pixels, a multiple of the stage's grain."""
    of_tile: float
    """Area of all crops, in parts of a tile's."""


@dataclass(frozen=True, kw_only=True)
class CropGrid:
    """How many crops a sample has, and how large they are."""

    rows: int
    columns: int
    side_px: int

    @property
    def count(self) -> int:
        """All crops."""
        return self.rows * self.columns

    @property
    def area_px(self) -> int:
        """Of all crops."""
        return self.count * self.side_px**2


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Square crops that stand for a picture."""

    boxes: tuple[Box, ...]
    shares: Tensor
    """[crops images], columns that sum to 1: how much each crop counts for each image."""
    picture_in_crops: float
    """Area of the picture over that of a crop."""


Look = Callable[[Tensor, Mapping[str, Tensor], Sample], AbstractContextManager[None]]
"""(crops [crops · images c h w], guides cropped alike, where they are from) → within it the stage's tiles are treated by
what the crops showed."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """How a stage looks at a sample of the picture before its tiles."""

    look: Look
    size: SampleSize


RIDGE = 0.1
"""Of the standardised features; larger keeps the weights closer to equal."""

LEAST, MOST = 0.1, 4.0
"""Limits of a crop's weight, in parts of the mean weight."""

STEPS = 4
"""Crops may start at every fourth of their side."""

BAND_PX = 1 << 18
"""Pixels (cells of the plane) whose features are in memory at a time."""


def crop_grid(plan: TilePlan, size: SampleSize) -> CropGrid:
    """Return a grid of crops of about the size that is asked for; at least 3×3 if that is not far more than a tile.

    Args:
        plan: the tiles that the stage will run. Where they are smaller than a crop, crops are as they are.
        size: what is asked for.
    """
    tile_px = (plan.rows[0][1], plan.columns[0][1])
    side = min(size.crop_px, *tile_px)
    rows, columns = (
        max(round(length / side * size.of_tile**0.5), min(3, int(1.25 * length / side))) for length in tile_px
    )
    return CropGrid(rows=rows, columns=columns, side_px=side)


def take_sample(plane: Plane, grid: CropGrid) -> Sample:
    """Return a stratum's most typical crop, stratum by stratum, and the weights of all.

    Images of a batch have their crops at the same places, and weights of their own.
    """
    step = max(1, grid.side_px // plane.stride_px // STEPS)
    side = grid.side_px // plane.stride_px // step
    squares = _features(plane.data_bchw, step)
    crops = F.avg_pool2d(squares, side, stride=1)
    spread = crops.std((2, 3), correction=0).clamp_min(1e-6)
    spans = (
        list(zip(_strata(cells, side, n), _strata(cells, 1, n), strict=True))
        for cells, n in zip(squares.shape[2:], (grid.rows, grid.columns), strict=True)
    )
    starts = []
    for (crop_rows, rows), (crop_columns, columns) in product(*spans):
        wanted = squares[:, :, rows, columns].mean((2, 3))
        off = (crops[:, :, crop_rows, crop_columns] - wanted[..., None, None]) / spread[..., None, None]
        y, x = divmod(int(off.square().sum((0, 1)).argmin()), off.shape[3])
        starts.append((crop_rows.start + y, crop_columns.start + x))
    taken = torch.stack([crops[:, :, y, x] for y, x in starts]).double()
    whole = squares.mean((2, 3), dtype=torch.float64)
    px = step * plane.stride_px
    return Sample(
        boxes=tuple(Box(y * px, x * px, side * px, side * px) for y, x in starts),
        shares=torch.stack([_calibrated(taken[:, i], whole[i]) for i in range(len(whole))], dim=1),
        picture_in_crops=plane.height_px * plane.width_px / (side * px) ** 2,
    )


def _strata(cells: int, side: int, count: int) -> Iterator[slice]:
    """Yield where windows of `side` cells start that lie within each of `count` equal strata, one at the least."""
    last = cells - side
    for i in range(count):
        start = min(round(i * cells / count), last)
        yield slice(start, max(start, min(round((i + 1) * cells / count) - side, last)) + 1)


def _features(x_bchw: Tensor, step: int) -> Tensor:
    """Return the means of x, x², |∂x| and (∂x)² of every channel over squares of `step`, [b 4c h/step w/step].

    Float32 on the CPU. What is left of the picture after the last whole square does not count.
    """
    height = x_bchw.shape[2] // step * step
    rows = max(1, BAND_PX // (step * x_bchw.shape[3])) * step
    return torch.cat(
        [_band_features(x_bchw, top, min(top + rows, height), step) for top in range(0, height, rows)], 2
    )


def _band_features(x_bchw: Tensor, top: int, bottom: int, step: int) -> Tensor:
    band = x_bchw[
        :, :, top : bottom + 1
    ].float()  # and the next one's first row, so that no difference is lost
    band = F.pad(band, (0, 1, 0, bottom + 1 - top - band.shape[2]), mode="replicate")
    x = band[:, :, :-1, :-1]
    dy, dx = band[:, :, 1:, :-1] - x, band[:, :, :-1, 1:] - x
    maps = torch.cat([x, x.square(), dx.abs() + dy.abs(), dx.square() + dy.square()], 1)
    return F.avg_pool2d(maps, step).cpu()


def _calibrated(crops: Tensor, whole: Tensor) -> Tensor:
    """Return weights of [crops features] whose weighted mean is near `whole`: ridge regression's, clamped."""
    count = len(crops)
    middle = crops.mean(0)
    spread = crops.std(0, correction=0).clamp_min(1e-9)
    a, wanted = (crops - middle) / spread, (whole - middle) / spread
    ridge = RIDGE * torch.eye(len(wanted), dtype=a.dtype)
    shares = (1 + a @ torch.linalg.solve(a.T @ a / count + ridge, wanted)) / count
    shares = shares.clamp(LEAST / count, MOST / count)
    return (shares / shares.sum()).float()
