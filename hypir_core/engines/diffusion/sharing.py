"""The sample of a stage whose network looks beyond a tile: all tiles are treated by what a sample showed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from ...tiling.sample import Sample, SampleSize, Sampling, Seen
from ...tiling.stage import TileFunction
from .parts import Placing


def of_network(run: TileFunction, placing: Placing, size: SampleSize) -> dict[str, Any]:
    """Return the fields of a `Stage` that say how the network of its function is used.

    Args:
        run: the stage's own function.
        placing: of the network that `run` calls.
        size: of the sample.
    """
    return {
        "bytes_per_px": placing.bytes_per_px,
        "place": placing.place,
        "sampling": _sampling(run, placing, size),
        "repeat": _repeat(run, placing),
    }


def _sampling(run: TileFunction, placing: Placing, size: SampleSize) -> Sampling | None:
    """Return how the stage looks at a sample, or None where every tile is treated by itself."""
    shared, in_float32 = placing.shared, placing.in_float32
    if shared is None:
        return None

    def look(crops: Tensor, guides: Mapping[str, Tensor], sample: Sample) -> Seen:
        with shared.gathering(sample.shares, sample.picture_in_crops) as seen:
            run(crops, guides)
        if not seen.is_finite() and in_float32 is not None:
            with in_float32(), shared.gathering(sample.shares, sample.picture_in_crops) as seen:
                run(crops, guides)
        return partial(shared.using, seen)

    return Sampling(look=look, size=size)


def _repeat(run: TileFunction, placing: Placing) -> TileFunction | None:
    """Return the stage's function in float32, or None where that cannot be had."""
    in_float32 = placing.in_float32
    if in_float32 is None:
        return None

    def again(tile: Tensor, guides: Mapping[str, Tensor]) -> Tensor:
        with in_float32():
            return run(tile, guides)

    return again
