"""Cut a picture into blocks of rows, so that a conversion needs no temporary of the picture's size."""

from __future__ import annotations

from collections.abc import Iterator

_BLOCK_VALUES = 2**22
"""Values in one block: 16 MiB of float32."""


def row_blocks(shape_hwc: tuple[int, ...]) -> Iterator[slice]:
    """Yield slices of rows, top to bottom, that together cover a picture [H W C]."""
    height, width, channels = shape_hwc
    rows = max(1, _BLOCK_VALUES // max(1, width * channels))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
