"""A stack as planes in [0,1] and back into a file: for programs that know pictures only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError, ImageFileError, ShapeError
from ...tiling.geometry import Box
from .axes import Wanted
from .catalog import format_for_scene, open_scene, open_scene_sink
from .grid import Grid
from .recognise import scene_format
from .result import Order
from .scene import ArrayScene, Scene, values_of

WHITE = {"uint8": 255.0, "uint16": 65535.0}
"""Numbers that become 1, of formats whose range is that of cameras; other formats have their least and greatest."""


@dataclass(frozen=True, kw_only=True)
class StackInfo:
    """Where planes come from, and what 0 and 1 mean in them."""

    path: Path
    wanted: Wanted
    axes: str
    """Letters of the axes besides rows and columns, and of the channels, in the order of the planes."""
    sizes: tuple[int, ...]
    """Lengths of these axes."""
    rows_columns: tuple[int, int]
    dtype: str
    black: float
    """The file's number that became 0."""
    white: float
    """The file's number that became 1."""
    spacing: Mapping[str, float]
    units: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def planes(self) -> int:
        """How many planes there are."""
        return int(np.prod(self.sizes, dtype=int))

    def summary(self) -> str:
        """Return one line for people."""
        height, width = self.rows_columns
        order = " ".join(f"{axis.upper()} {size}" for axis, size in zip(self.axes, self.sizes, strict=True))
        sides = " × ".join(
            f"{self.spacing[axis]:.4g} {self.units.get(axis, '')}".strip()
            for axis in "xy"
            if axis in self.spacing
        )
        return f"{order or 'one plane'}, {width}×{height} px, {self.dtype}" + (
            f", pixels of {sides}" if sides else ""
        )

    def to_values(self, planes_01: Tensor) -> Tensor:
        """Return the numbers of the file."""
        return planes_01.float() * (self.white - self.black) + self.black


def read_planes(path: Path, *, axes: str = "", dataset: str = "") -> tuple[Tensor, StackInfo]:
    """Read a whole stack.

    Returns:
        Planes [n rows columns] float32 in [0,1] in the order t z c; cells without data are 0. And what they are.

    Raises:
        ImageFileError: it cannot be read, or its axes are not known.
        ConfigError: it is no stack.
        MissingDependencyError: the format's library is not installed.
    """
    wanted = Wanted(axes=axes, dataset=dataset, channels=1)
    scene = _opened(path, wanted)
    try:
        grid = scene.grid
        *outer, height, width = grid.sizes
        found = np.empty((int(np.prod(outer, dtype=int)), len(grid.bands), height, width), np.float32)
        for number, index in enumerate(np.ndindex(*outer)):
            block = scene.block(Box((*index, 0, 0), (*[1] * len(outer), height, width)))
            values = values_of(block.stored, grid).reshape(len(grid.bands), height, width)
            if block.valid is not None:
                values[:, ~block.valid.reshape(height, width)] = np.nan
            found[number] = values
        black, white = _levels(found, grid)
        info = StackInfo(
            path=path,
            wanted=wanted,
            axes=grid.axes[:-2] + ("c" if len(grid.bands) > 1 else ""),
            sizes=(*outer, *([len(grid.bands)] if len(grid.bands) > 1 else [])),
            rows_columns=(height, width),
            dtype=grid.dtype.name,
            black=black,
            white=white,
            spacing=dict(scene.placement.spacing),
            units=dict(scene.placement.units),
            notes=scene.notes,
        )
    finally:
        scene.close()
    np.nan_to_num(found, copy=False, nan=black, posinf=white, neginf=black)
    found -= np.float32(black)
    found /= np.float32(white - black)
    return torch.from_numpy(found.reshape(-1, height, width)), info


def write_planes(
    path: Path, planes_01: Tensor, info: StackInfo | None, *, force: bool = False
) -> tuple[str, ...]:
    """Write planes [n rows columns] in the numbers, axes and pixel sizes of the stack that they come from.

    Args:
        path: .ome.tif, .tif, .zarr …; what fits the stack's format keeps its dialect.
        planes_01: as `read_planes` gave them, or larger by a whole factor.
        info: from `read_planes`; None writes 16 bit with the axes z y x.
        force: overwrite.

    Returns:
        Notes.

    Raises:
        ShapeError: these are not the planes of that stack.
        ImageFileError: the stack is not there any more, or the file cannot be written.
    """
    planes = planes_01.float().cpu()
    if info is None:
        values: Any = (planes.clamp(0, 1) * 65535).numpy().round().astype(np.uint16)
        scene: Scene = ArrayScene(Path("planes"), values, "zyx")
        return _written(path, scene, torch.from_numpy(values.astype(np.float32)), "stack", 1, force=force)
    height, width = info.rows_columns
    factor = planes.shape[-1] // width
    if len(planes) != info.planes or tuple(planes.shape[1:]) != (height * factor, width * factor):
        raise ShapeError(
            f"expected the {info.planes} planes of {info.path.name}, {width}×{height} px or larger by a "
            f"whole factor, "
            f"got {len(planes)} of {planes.shape[-1]}×{planes.shape[-2]} px; connect the stack_info of the "
            f"stack that "
            "these come from"
        )
    scene = _opened(info.path, info.wanted)
    try:
        own = scene_format(info.path, info.wanted, file_values=True) or "stack"
        return _written(path, scene, info.to_values(planes), own, factor, force=force)
    finally:
        scene.close()


def _written(
    path: Path, scene: Scene, values: Tensor, own: str, factor: int, *, force: bool
) -> tuple[str, ...]:
    grid = scene.grid
    order = Order(loops=len(grid.axes) - 2)
    sink = open_scene_sink(
        path,
        scene,
        dict.fromkeys(grid.axes, 1) | {"y": factor, "x": factor},
        format_name=format_for_scene(path, scene, own),
        order=order,
        force=force,
    )
    try:
        rows = order.rows(sink.grid)
        for number, plane in enumerate(values.unflatten(0, (-1, len(grid.bands)))):
            sink.write(number * rows, plane[None])
        sink.commit()
    except BaseException:
        sink.abort()
        raise
    return sink.notes


def _opened(path: Path, wanted: Wanted) -> Scene:
    if not path.exists():
        raise ImageFileError(f"{path}: expected a stack, got no such file; check the path")
    name = scene_format(path, wanted, file_values=True)
    if name is None:
        raise ConfigError(f"{path}: expected a stack as TIFF, OME-TIFF, Zarr or HDF5, got something else")
    return open_scene(path, wanted, format_name=name)


def _levels(values: np.ndarray, grid: Grid) -> tuple[float, float]:
    """Return what 0 and 1 mean."""
    white = WHITE.get(grid.dtype.name)
    if white is not None and grid.slope == 1 and grid.intercept == 0:
        return 0.0, white
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = min(float(finite.min()), 0.0), float(finite.max())
    return low, high if high > low else low + 1.0
