"""A sample of a picture that stands for the whole of it, before its tiles are run.

The sample is an even grid of small crops, together about as large as one tile, so that it costs one tile more
and no more memory. Crops do not count alike: their weights are chosen so that what is cheap to know of
the whole picture (brightness, contrast, edges) comes out right. This is a calibration estimator (Deville and
Särndal, "Calibration estimators in survey sampling", JASA 87, 1992), with a ridge so that no crop counts for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..image.plane import Box, Plane
from .plan import TilePlan

Look = Callable[[Tensor, Mapping[str, Tensor], Tensor], AbstractContextManager[None]]
"""(crops [crops · images c h w], guides cropped alike, shares [crops images]) → within it the stage's tiles are
treated by what the crops showed."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """How a stage looks at a sample of the picture before its tiles."""

    look: Look
    crop_px: int
    """Side of a crop, in output pixels, a multiple of the stage's grain."""


RIDGE = 0.1
"""Of the standardised features; larger keeps the weights closer to equal."""

LEAST, MOST = 0.1, 4.0
"""Limits of a crop's weight, in parts of the mean weight."""

BAND = 512
"""Rows of the plane at a time."""


def survey_boxes(plan: TilePlan, *, crop_px: int, grain_px: int) -> tuple[Box, ...]:
    """Return square crops, spread evenly: as many along each axis as fit into one tile.

    Args:
        plan: the tiles that the stage will run.
        crop_px: side of a crop, at most a tile's, a multiple of the grain.
        grain_px: starts are multiples of this.
    """
    rows, columns = (
        _starts(total, tile_px, crop_px, grain_px)
        for total, tile_px in ((plan.height_px, plan.rows[0][1]), (plan.width_px, plan.columns[0][1]))
    )
    side = [min(crop_px, length) for length in (plan.rows[0][1], plan.columns[0][1])]
    return tuple(Box(y, x, *side) for y in rows for x in columns)


def crop_shares(plane: Plane, boxes: Sequence[Box]) -> Tensor:
    """Return how much each crop counts for each image: [crops images], columns that sum to 1."""
    whole = _features(_bands(plane.data_bchw))
    crops = torch.stack([_features([plane.crop(box)]) for box in boxes])
    return torch.stack([_calibrated(crops[:, i], whole[i]) for i in range(len(whole))], dim=1)


def _starts(total_px: int, tile_px: int, crop_px: int, grain_px: int) -> list[int]:
    count = max(1, tile_px // crop_px)
    last = total_px - min(crop_px, tile_px)
    middles = [(index + 0.5) * total_px / count - crop_px / 2 for index in range(count)]
    return [min(max(round(middle / grain_px), 0) * grain_px, last) for middle in middles]


def _bands(plane_bchw: Tensor) -> Iterable[Tensor]:
    """Cut a plane into bands; each has the next one's first row, so that no difference is lost."""
    height = plane_bchw.shape[2]
    for top in range(0, height, BAND):
        yield plane_bchw[:, :, top : min(top + BAND + 1, height)]


def _features(parts_bchw: Iterable[Tensor]) -> Tensor:
    """Return per image the means of x, x², |∂x| and (∂x)² of every channel, [b 4c], float64 on the CPU."""
    total, cells = torch.zeros((), dtype=torch.float64), 0
    for part in parts_bchw:
        x = part[:, :, : max(1, part.shape[2] - 1), : max(1, part.shape[3] - 1)].float()
        h, w = x.shape[-2:]
        dy = part[:, :, -h:, :w].float() - x
        dx = part[:, :, :h, -w:].float() - x
        sums = [x, x.square(), dx.abs() + dy.abs(), dx.square() + dy.square()]
        total = total + torch.cat([s.sum((2, 3), dtype=torch.float64) for s in sums], 1).cpu()
        cells += h * w
    return total / cells


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
