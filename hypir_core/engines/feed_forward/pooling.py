"""One look at a sample of the picture for networks that take means over all they are given."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from ...models.layers.shared_pools import SharedPools
from ...tiling.sample import Sample, SampleSize, Sampling, Seen
from ...tiling.stage import TileFunction

SAMPLE = {1: (4096, 32), 2: (128, 8), 3: (32, 16)}
"""Side of a crop of the sample in input pixels, and about how many crops there are, by the number of axes: with twice as
many the means are half as far off."""


def pooled_alike(
    pools: tuple[nn.Module, ...], run: TileFunction, axes: int, *, kept: int, tile_side: int
) -> Sampling | None:
    """Return how a stage looks at a sample, or None for a network without global means.

    Args:
        pools: the layers that take such means, of the network that `run` calls.
        run: the stage's own function.
        axes: spatial axes.
        kept: output pixels per input pixel, along an axis.
        tile_side: of the stage's own tiles, in input pixels.
    """
    if not pools:
        return None
    shared = SharedPools(pools)

    def look(crops: Tensor, guides: Mapping[str, Tensor], sample: Sample) -> Seen:
        with shared.gathering(sample.shares) as found:
            run(crops, guides)
        return partial(shared.using, found)

    side, crops = SAMPLE[axes]
    size = SampleSize(crop_px=kept * side, of_tile=crops * (side / tile_side) ** axes)
    return Sampling(look=look, size=size)
