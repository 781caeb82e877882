"""What a network needs of its input's sides, and what a report says where the input is thinner than that."""

from __future__ import annotations

from collections.abc import Sequence

from ...tiling.geometry import by


def padded_sizes(sizes: Sequence[int], least_px: int, multiple: int) -> tuple[list[int], tuple[str, ...]]:
    """Return the sides of a padded input, and what a report must say of them.

    Sides that only become a multiple of something are padded without a word: of a picture they are always some.

    Args:
        sizes: cells along every axis.
        least_px: sides must be at least so long.
        multiple: sides must divide by this.
    """
    padded = [max(size, least_px) for size in sizes]
    padded = [size + -size % multiple for size in padded]
    least = max(least_px, multiple)
    if min(sizes) >= least:
        return padded, ()
    return padded, (
        f"the input has {by(tuple(sizes))} cells, and the network takes at least {least} along every axis: it saw "
        f"{by(tuple(padded))}, the last cells repeated; the result has the size of the input's",
    )
