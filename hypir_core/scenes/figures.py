"""Figures of a finished result, plane by plane: does it explain what was measured, and how near is it to the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log10, prod
from statistics import fmean
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..engines.base import Engine
from ..engines.of_scene import Explains
from ..errors import ConfigError, ImageFileError, ShapeError
from ..files.scenes.grid import Grid
from ..files.scenes.result import Order
from ..files.scenes.scene import Scene, values_of
from ..image.histogram import summarise
from ..metrics.fidelity import SSIM_WINDOW_PX, ssim
from ..metrics.frc import frc_resolution_px
from ..physics.explained import Explained, joined
from ..tiling.geometry import Box, by
from .reading import READ_VALUES, Values

LEAST_FRC_PX = 4

AGAINST_TRUTH = ("psnr_db", "ssim", "frc_px")
"""Figures that compare with a truth; the others compare with what was measured."""


class Parts(Protocol):
    """A result whose numbers can be read back."""

    grid: Grid
    order: Order

    @property
    def planes(self) -> int:
        """How many planes of rows and columns there are, channels not counted."""
        ...

    def part(self, plane: int, first: int, end: int) -> np.ndarray:
        """Return rows [first, end) of a plane, [c rows columns], as stored."""
        ...


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a report lists and says."""

    measures: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def figures_of(engine: Engine, scene: Scene, result: Parts, truth: Scene | None, *, white: float) -> Figures:
    """Return the figures of a result; none where the engine cannot tell and there is no truth.

    Args:
        engine: the one that made it.
        scene: what it is made from.
        result: all of its rows are there.
        truth: what it should be.
        white: the file's number that the engine sees as 1.

    Raises:
        ConfigError: the truth is of another size.
    """
    measures: dict[str, float] = {}
    notes: tuple[str, ...] = ()
    if isinstance(engine, Explains) and result.grid.sizes == scene.grid.sizes:
        explained = joined(tuple(_explained(engine, scene, result, white)))
        measures |= explained.figures()
        notes = tuple(explained.notes())
    if truth is not None:
        near = _near(result, truth)
        measures |= near
        told = ", ".join(f"{name} {value:.4g}" for name, value in near.items())
        told += "" if "psnr_db" in near else ", no number differs"
        notes = (*notes, f"against the truth: {told}")
    return Figures(measures=measures, notes=notes)


def check_truth(truth: Scene, grid: Grid) -> None:
    """Refuse a truth that cannot be compared.

    Raises:
        ConfigError: it has other axes, sizes or channels than the result.
    """
    other = truth.grid
    more = len(other.bands) > len(grid.bands)  # a result may have its deviation behind it
    if (other.axes, other.sizes) != (grid.axes, grid.sizes) or more:
        raise ConfigError(
            f"{truth.path}: expected a truth of the result's size, {grid.axes.upper()} {by(grid.sizes)} with "
            f"{len(grid.bands)} channels, got {other.axes.upper()} {by(other.sizes)} with {len(other.bands)}"
        )


def _explained(engine: Explains, scene: Scene, result: Parts, white: float) -> Iterator[Explained]:
    """Yield what every block of rows says; one block and its surroundings are in memory."""
    height, width = result.grid.sizes[-2:]
    margin = engine.margin_px
    rows = max(1, READ_VALUES // max(1, width * len(result.grid.bands)))
    for plane in range(result.planes):
        for first in range(0, height, rows):
            end = min(first + rows, height)
            start, stop = max(0, first - margin), min(height, end + margin)
            try:
                seen = _of_scene(scene, plane, start, stop)
            except ImageFileError:
                break  # whoever restored this plane has told; it is without data
            made = _of_result(result, plane, start, stop)
            for group in _groups(result):
                pair = (made[:, group] / white, seen[:, group] / white)
                yield engine.explained(*pair, slice(first - start, end - start))


def _near(result: Parts, truth: Scene) -> dict[str, float]:
    """Return PSNR and SSIM on the truth's range, and the resolution by ring correlation: means over the planes."""
    summary = summarise(Values(truth, 1.0).statistics[-1].channels)
    span = summary.high - summary.low
    if not span > 0:
        raise ConfigError(
            f"{truth.path}: expected a truth with a picture in it, got {summary.low:g} everywhere"
        )
    height, width = result.grid.sizes[-2:]
    errors, alike, finest = [], [], []
    for plane in range(result.planes):
        made, true = _of_result(result, plane, 0, height), _of_scene(truth, plane, 0, height)
        for channel in range(true.shape[1]):
            a, b = (((each[:, channel : channel + 1]) - summary.low) / span for each in (made, true))
            if not bool((a.isfinite() & b.isfinite()).all()):
                continue  # cells without data have no error
            errors.append(float((a - b).double().square().mean()))
            if min(height, width) >= SSIM_WINDOW_PX:
                alike.append(float(ssim(a, b)))
            if min(height, width) >= LEAST_FRC_PX:
                finest.append(float(frc_resolution_px(a, b)))
    if not errors:
        raise ShapeError(f"{truth.path}: no plane holds data everywhere; there is nothing to compare")
    finite = [-10 * log10(error) for error in errors if error]  # of an equal plane it is infinite
    found = {"psnr_db": fmean(finite)} if finite else {}
    if alike:
        found["ssim"] = fmean(alike)
    if finest:
        found["frc_px"] = fmean(finest)
    return found


def _groups(result: Parts) -> list[slice]:
    count = len(result.grid.bands)
    return [slice(c, c + 1) for c in range(count)] if result.order.separate else [slice(0, count)]


def _of_result(result: Parts, plane: int, first: int, end: int) -> Tensor:
    """Return values [1 c rows columns]."""
    return torch.from_numpy(values_of(result.part(plane, first, end), result.grid))[None]


def _of_scene(scene: Scene, plane: int, first: int, end: int) -> Tensor:
    """Return values [1 c rows columns]; NaN where there is no data."""
    *outer, _, width = scene.grid.sizes
    index = tuple(map(int, np.unravel_index(plane, outer))) if outer else ()
    block = scene.block(Box((*index, first, 0), (*[1] * len(outer), end - first, width)))
    values = values_of(block.stored, scene.grid)
    if block.valid is not None:
        values[:, ~block.valid] = np.nan
    assert prod(values.shape[1:-2]) == 1
    return torch.from_numpy(values.reshape(values.shape[0], *values.shape[-2:]))[None]
