"""A sample of a picture that stands for the whole of it, before its tiles are run.

The picture is cut into strata, an even grid, and of each stratum the most typical crop is taken: the one nearest to
it in what is cheap to know (brightness, contrast, edges). Crops do not count alike: their weights are chosen so that the
same features of the whole picture come out right. This is a calibration estimator (Deville and Särndal,
"Calibration estimators in survey sampling", JASA 87, 1992), with a ridge so that no crop counts for all. The crops
are together as large as the stage says, in parts of a tile; the plan counts their time and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from .geometry import Box, Readable
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
    """How many crops a sample has along every axis, and how large they are."""

    counts: tuple[int, ...]
    side_px: int

    @property
    def count(self) -> int:
        """All crops."""
        return prod(self.counts)

    @property
    def area_px(self) -> int:
        """Of all crops."""
        return self.count * self.side_px ** len(self.counts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Crops of equal sides that stand for a picture."""

    boxes: tuple[Box, ...]
    shares: Tensor
    """[crops images], columns that sum to 1: how much each crop counts for each image."""
    picture_in_crops: float
    """Area of the picture over that of a crop."""


Seen = Callable[[], AbstractContextManager[None]]
"""Within what it returns, the stage's tiles are treated by what a sample showed; may be entered many times."""

Look = Callable[[Tensor, Mapping[str, Tensor], Sample], Seen]
"""(crops [crops · images c *cells], guides cropped alike, where they are from) → what they showed."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
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


POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def crop_grid(plan: TilePlan, size: SampleSize) -> CropGrid:
    """Return a grid of crops of about the size that is asked for.

    There are at least 3 along an axis if that is not far more than a tile.

    Args:
        plan: the tiles that the stage will run. Where they are smaller than a crop, crops are as they are.
        size: what is asked for.
    """
    side = min(size.crop_px, *plan.tile_sizes_px)
    part = size.of_tile ** (1 / len(plan.sizes_px))
    counts = (
        max(round(length / side * part), min(3, int(1.25 * length / side))) for length in plan.tile_sizes_px
    )
    return CropGrid(counts=tuple(counts), side_px=side)


def take_sample(plane: Readable, grid: CropGrid) -> Sample:
    """Return a stratum's most typical crop, stratum by stratum, and the weights of all.

    Images of a batch have their crops at the same places, and weights of their own.
    """
    cells = tuple(grid.side_px // stride for stride in plane.strides)
    steps = tuple(max(1, side // STEPS) for side in cells)
    sides = tuple(side // step for side, step in zip(cells, steps, strict=True))
    squares = _features(plane, steps)
    axes = len(cells)
    crops = POOLS[axes](squares, sides, stride=1)
    space = tuple(range(2, squares.ndim))
    spread = crops.std(space, correction=0).clamp_min(1e-6)[(..., *[None] * axes)]
    spans = (
        list(zip(_strata(length, side, n), _strata(length, 1, n), strict=True))
        for length, side, n in zip(squares.shape[2:], sides, grid.counts, strict=True)
    )
    starts = []
    for place in product(*spans):
        of_crops, of_squares = zip(*place, strict=True)
        wanted = squares[(..., *of_squares)].mean(space)[(..., *[None] * axes)]
        off = ((crops[(..., *of_crops)] - wanted) / spread).square().sum((0, 1))
        found = torch.unravel_index(off.argmin(), off.shape)
        starts.append(tuple(span.start + int(at) for span, at in zip(of_crops, found, strict=True)))
    taken = torch.stack([crops[(..., *start)] for start in starts]).double()
    whole = squares.mean(space, dtype=torch.float64)
    px = tuple(step * stride for step, stride in zip(steps, plane.strides, strict=True))
    sizes = tuple(side * p for side, p in zip(sides, px, strict=True))
    return Sample(
        boxes=tuple(Box(tuple(at * p for at, p in zip(start, px, strict=True)), sizes) for start in starts),
        shares=torch.stack([_calibrated(taken[:, i], whole[i]) for i in range(len(whole))], dim=1),
        picture_in_crops=prod(plane.sizes_px) / prod(sizes),
    )


def _strata(cells: int, side: int, count: int) -> Iterator[slice]:
    """Yield where windows of `side` cells start that lie within each of `count` equal strata, one at the least."""
    last = cells - side
    for i in range(count):
        start = min(round(i * cells / count), last)
        yield slice(start, max(start, min(round((i + 1) * cells / count) - side, last)) + 1)


def _features(plane: Readable, steps: tuple[int, ...]) -> Tensor:
    """Return the means of x, x², |∂x| and (∂x)² of every channel over squares of `steps` cells, [b 4c *cells/steps].

    Float32 on the CPU. What is left of the picture after the last whole square does not count.
    """
    length, *others = (size // s for size, s in zip(plane.sizes_px, plane.strides, strict=True))
    height = length // steps[0] * steps[0]
    rows = max(1, BAND_PX // (steps[0] * prod(others))) * steps[0]
    return torch.cat(
        [_band_features(plane, top, min(top + rows, height), steps) for top in range(0, height, rows)], 2
    )


def _band_features(plane: Readable, top: int, bottom: int, steps: tuple[int, ...]) -> Tensor:
    stride, (length, *others) = plane.strides[0], plane.sizes_px
    end = min((bottom + 1) * stride, length)  # and the next one's first row, so that no difference is lost
    box = Box((top * stride, *[0] * len(others)), (end - top * stride, *others))
    band = plane.crop(box).float()
    axes = band.ndim - 2
    last = bottom + 1 - top - band.shape[2]
    band = (
        F.pad(band, (*(0, 1) * (axes - 1), 0, last), mode="replicate")
        if axes > 1
        else _repeat_last(band, last)
    )
    inside = [slice(-1)] * axes
    x = band[(..., *inside)]
    ahead = ([*inside[:i], slice(1, None), *inside[i + 1 :]] for i in range(axes))
    slopes = [band[(..., *place)] - x for place in ahead]
    maps = torch.cat(
        [
            x,
            x.square(),
            _sum(slope.abs() for slope in reversed(slopes)),
            _sum(s.square() for s in reversed(slopes)),
        ],
        1,
    )
    return POOLS[axes](maps, steps).cpu()


def _repeat_last(line: Tensor, count: int) -> Tensor:
    return torch.cat([line, *[line[..., -1:]] * count], -1)


def _sum(parts: Iterable[Tensor]) -> Tensor:
    first, *others = parts
    for other in others:
        first = first + other
    return first


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
