"""The survey of a stage whose network looks beyond a tile: all tiles are treated by what a sample showed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from torch import Tensor

from ...models.layers.shared_layers import SharedLayers
from ...tiling.run import TileFunction
from ...tiling.sample import Sample, SampleSize, Survey

InFloat32 = Callable[[], AbstractContextManager[None]]


def sample_survey(
    run: TileFunction, shared: SharedLayers | None, size: SampleSize, *, in_float32: InFloat32 | None = None
) -> Survey | None:
    """Return the survey of a stage, or None where every tile is treated by itself.

    Args:
        run: the stage's own function.
        shared: layers of the network that `run` calls.
        size: of the sample.
        in_float32: within it `run` computes in float32: a second try for a sample that is not finite.
    """
    if shared is None:
        return None

    def look(crops: Tensor, guides: Mapping[str, Tensor], sample: Sample) -> AbstractContextManager[None]:
        with shared.gathering(sample.shares, sample.picture_in_crops) as seen:
            run(crops, guides)
        if not seen.is_finite() and in_float32 is not None:
            with in_float32(), shared.gathering(sample.shares, sample.picture_in_crops) as seen:
                run(crops, guides)
        return shared.using(seen)

    return Survey(look=look, size=size)
