"""GeoTIFF tags of a picture, and what becomes of them when it is resized.

Source: OGC 19-008r4 (GeoTIFF 1.1), sections 7.1.2 and annex B.6: ModelTiepoint, ModelPixelScale, ModelTransformation.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

PIXEL_SCALE, TIEPOINTS, TRANSFORMATION = 33550, 33922, 34264
GEO_TAGS = frozenset({PIXEL_SCALE, TIEPOINTS, TRANSFORMATION, 34735, 34736, 34737, 42112, 42113})
"""The three of the raster, the three directories of keys, GDAL's metadata and no-data value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeoTag:
    """One tag with its value."""

    tag: int
    kind: int
    """TIFF type of the values."""
    count: int
    value: bytes
    """In the byte order `order`."""
    order: str
    """``<`` or ``>``."""


def resized(tags: Sequence[GeoTag], old_hw: tuple[int, int], new_hw: tuple[int, int]) -> tuple[GeoTag, ...]:
    """Return the tags of the same ground covered by another number of pixels."""
    factor_y, factor_x = new_hw[0] / old_hw[0], new_hw[1] / old_hw[1]
    return tuple(_resized(tag, factor_x, factor_y) for tag in tags)


def _resized(tag: GeoTag, factor_x: float, factor_y: float) -> GeoTag:
    if tag.tag not in (PIXEL_SCALE, TIEPOINTS, TRANSFORMATION) or len(tag.value) != 8 * tag.count:
        return tag
    values = list(struct.unpack(f"{tag.order}{tag.count}d", tag.value))
    if tag.tag == PIXEL_SCALE and tag.count >= 2:
        values[0], values[1] = values[0] / factor_x, values[1] / factor_y
    elif tag.tag == TIEPOINTS:
        for at in range(0, len(values) - 5, 6):
            values[at], values[at + 1] = values[at] * factor_x, values[at + 1] * factor_y
    elif tag.tag == TRANSFORMATION and tag.count == 16:
        for row in range(0, 16, 4):
            values[row], values[row + 1] = values[row] / factor_x, values[row + 1] / factor_y
    return replace(tag, value=struct.pack(f"{tag.order}{tag.count}d", *values))
