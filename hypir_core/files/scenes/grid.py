"""What a scene is besides its numbers: axes, bands, number format, and where it lies in the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from ...errors import ImageFileError

SPATIAL = "tzyx"
"""Letters of the axes that are not channels, in their order."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Cells of a scene."""

    axes: str
    """Letters of the spatial axes: ``yx``, ``zyx``, ``tyx``, ``tzyx``."""
    sizes: tuple[int, ...]
    """Cells along every axis."""
    bands: tuple[str, ...]
    """A name for every channel; empty where the file gives none."""
    dtype: np.dtype
    """Of the stored numbers."""
    nodata: float | None = None
    """The stored number that says that there is none."""
    slope: float = 1.0
    """A value is slope · stored + intercept."""
    intercept: float = 0.0
    masked: bool = False
    """Whether the file has a mask of its own."""

    @property
    def may_have_holes(self) -> bool:
        """Whether a cell can be without data."""
        return self.masked or self.nodata is not None or self.dtype.kind == "f"

    @property
    def white(self) -> float:
        """The value that stands for 1 where a network wants [0,1]: the greatest of an integer format, 1 of floats."""
        return 1.0 if self.dtype.kind == "f" else float(np.iinfo(self.dtype).max)

    def enlarged(self, factors: Mapping[str, int], bands: tuple[str, ...]) -> Grid:
        """Return the grid of a result, larger by a factor for each axis, with other bands."""
        sizes = tuple(size * factors[axis] for axis, size in zip(self.axes, self.sizes, strict=True))
        return replace(self, sizes=sizes, bands=bands)

    @property
    def bytes(self) -> int:
        """Of all numbers."""
        return prod(self.sizes) * len(self.bands) * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a scene lies; what a file does not say is None or missing."""

    crs: str | None = None
    """Coordinate system of the ground, as WKT."""
    affine: tuple[float, ...] | None = None
    """(a, b, c, d, e, f): column and row of a corner → a·column + b·row + c, d·column + e·row + f."""
    matrix: tuple[tuple[float, ...], ...] | None = None
    """4 × 4: (x, y, z, 1) of a voxel's centre → millimetres."""
    spacing: Mapping[str, float] = field(default_factory=dict)
    """Length of a cell along the axes that have one."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit of `spacing`, by axis: ``mm``, ``µm``, ``s`` …"""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the format of the file says of itself and a result in that format takes over."""

    def enlarged(self, factors: Mapping[str, int]) -> Placement:
        """Return the placement of a result that covers the same ground with more cells; the corner stays."""
        x, y, z = (factors.get(axis, 1) for axis in "xyz")
        affine, matrix = self.affine, self.matrix
        if affine is not None:
            a, b, c, d, e, f = affine
            affine = (a / x, b / y, c, d / x, e / y, f)
        if matrix is not None:
            # Centres: the first small cell's lies (1 - 1/s) / 2 of a large cell before the large one's.
            s = np.array([x, y, z], np.float64)
            shrink = np.diag([*(1 / s), 1.0])
            shrink[:3, 3] = (1 / s - 1) / 2
            found = np.array(matrix, np.float64) @ shrink
            matrix = tuple(tuple(float(v) for v in row) for row in found)
        spacing = {axis: length / factors.get(axis, 1) for axis, length in self.spacing.items()}
        return replace(self, affine=affine, matrix=matrix, spacing=spacing)


def bands_by_name(
    names: tuple[str, ...], named: tuple[str, ...], where: object
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which bands of a scene a network takes, by number from 1 on, and what a report says of them.

    Args:
        names: of the scene's channels; empty ones where the file gives none.
        named: of the network's channels.
        where: names the file in errors.

    Raises:
        ImageFileError: the scene has names, and not those; or no names, and another number of bands.
    """
    taken = ", ".join(named)
    if not any(names):
        if len(names) != len(named):
            raise ImageFileError(
                f"{where}: the weights take the bands {taken}, and the file has {len(names)} bands without names; "
                f"choose {len(named)} of them with --bands, in that order"
            )
        return (), (f"the file does not name its bands; they were taken in its order as {taken}",)
    own = [name.casefold() for name in names]
    if any(own.count(name.casefold()) != 1 for name in named):
        raise ImageFileError(
            f"{where}: the weights take the bands {taken}, and the file has {told(names)}; choose with --bands which of "
            "them stand for those, in that order"
        )
    order = tuple(str(own.index(name.casefold()) + 1) for name in named)
    same = order == tuple(str(n) for n in range(1, len(names) + 1))
    return order, () if same else (f"bands were taken by name: {taken} of {told(names)}",)


def chosen_bands(names: tuple[str, ...], wanted: tuple[str, ...], where: object) -> tuple[int, ...]:
    """Return the places of the bands that a person names, by name or by number from 1 on; all without a wish.

    Raises:
        ImageFileError: there is no such band.
    """
    if not wanted:
        return tuple(range(len(names)))
    places = []
    for word in wanted:
        same = [i for i, name in enumerate(names) if name.casefold() == word.strip().casefold()]
        number = int(word) if word.strip().isdecimal() else 0
        if len(same) == 1:
            places.append(same[0])
        elif 1 <= number <= len(names):
            places.append(number - 1)
        else:
            raise ImageFileError(
                f"{where}: expected --bands out of {told(names)}, got {word.strip()!r}; name them, or count from 1"
            )
    return tuple(places)


def told(bands: tuple[str, ...]) -> str:
    """Return bands as a person reads them."""
    return ", ".join(f"{number} {name}".rstrip() for number, name in enumerate(bands, 1))
