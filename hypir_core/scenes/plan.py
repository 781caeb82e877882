"""How an engine walks a scene, and what the result looks like: known from the grid, without reading a number."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..engines.base import Engine, EngineSpec
from ..errors import ConfigError, ShapeError
from ..files.scenes.grid import Grid, told
from ..files.scenes.result import Order
from ..image.size import MAX_SCALE
from ..request import Request
from .reading import Shape

MAX_SIDE = 1 << 22
"""Cells of a result along an axis."""


class Gridded(Protocol):
    """A scene, or the plan of one."""

    @property
    def path(self) -> Path:
        """Names it in errors."""
        ...

    @property
    def grid(self) -> Grid:
        """Its cells."""
        ...


def order_of(spec: EngineSpec, scene: Gridded) -> Order:
    """Return in which passes a network walks a scene.

    Raises:
        ConfigError: the network has more axes than the scene.
        ShapeError: it takes other channels.
    """
    axes = scene.grid.axes
    if not 2 <= spec.axes <= 3:
        raise ConfigError(
            f"engine {spec.name!r} has {spec.axes} axes; scenes are restored by networks of 2 or 3 axes"
        )
    if spec.axes > len(axes):
        raise ConfigError(
            f"engine {spec.name!r} restores volumes of {spec.axes} axes, and {scene.path} has the axes {axes.upper()}; "
            "choose weights of 2 axes"
        )
    given, wanted = len(scene.grid.bands), spec.in_channels
    if given != wanted and not (wanted == spec.out_channels == 1):
        raise ShapeError(
            f"engine {spec.name!r} takes {wanted} channel{'s' * (wanted > 1)}, {scene.path.name} has {given} "
            f"({told(scene.grid.bands)}); "
            + (f"choose {wanted} of them with --bands, or " if given > wanted else "choose ")
            + f"an engine or weights made for {given}"
        )
    return Order(loops=len(axes) - spec.axes, separate=given != wanted)


def factors_of(engine: Engine, scene: Gridded, request: Request) -> dict[str, int]:
    """Return the factor along every axis of a scene.

    Raises:
        ConfigError: the network does not have the factor that is asked for.
    """
    spec, grid = engine.spec, scene.grid
    height, width = grid.sizes[-2:]
    size = request.target.size_for(height, width, default_scale=spec.default_scale, max_side_px=MAX_SIDE)
    factor = size[0] / height
    axes = grid.axes[-spec.axes :]
    sizes = grid.sizes[-spec.axes :]
    if spec.streams:
        wanted = tuple(round(length * factor) for length in sizes)
        strides = engine.prepare(Shape(sizes, spec.in_channels), wanted, request).plane.strides
    else:
        strides = (round(spec.default_scale),) * spec.axes
    whole = max(strides)
    if (height * whole, width * whole) != size:
        raise ConfigError(
            f"a scene becomes larger by a whole factor that the network has, so that cells stay on the grid of the "
            f"ground; engine {spec.name!r} has up to ×{spec.default_scale:g}, got ×{factor:g}; choose --scale "
            f"{min(float(whole), MAX_SCALE):g}"
        )
    return dict.fromkeys(grid.axes, 1) | dict(zip(axes, strides, strict=True))


def bands_of(spec: EngineSpec, scene: Gridded) -> tuple[str, ...]:
    """Return the names of a result's channels."""
    same = spec.in_channels == spec.out_channels
    return scene.grid.bands if same else ("",) * spec.out_channels
