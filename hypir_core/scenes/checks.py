"""What can be known to be wrong with a scene, its engine and what is asked for, before the first tile."""

from __future__ import annotations

import numpy as np

from ..color.mode import ColorFix
from ..engines.base import Engine, EngineSpec
from ..engines.of_scene import SaysItsRange
from ..errors import ConfigError, ImageFileError
from ..files.scenes.grid import Grid
from ..files.scenes.scene import Scene
from ..image.ranges import Range
from ..request import Request
from .reading import blocks_of, has_planes


def check_wishes(spec: EngineSpec, request: Request) -> None:
    """Raise ConfigError where a request asks for what would mix or change a scene's values."""
    asked = {
        "a strength below 1": request.strength != 1,
        "a colour fix": request.color_fix not in {None, ColorFix.none},
        "edge_enhance": request.edge_enhance > 0,
        "sharpen": request.sharpen > 0,
    }
    problems = [f"a scene keeps its own values: leave out {name}" for name, it in asked.items() if it]
    if spec.wants_prompt:
        problems.append(
            f"engine {spec.name!r} restores pictures, not scenes; choose upscaler with weights of the scene's bands"
        )
    if problems:
        raise ConfigError(problems)


def check_any_data(scene: Scene) -> None:
    """Raise ConfigError where a scene has no cell with data; reading ends at the first block with some."""
    if not scene.grid.may_have_holes:
        return
    for box in blocks_of(scene):
        try:
            valid = scene.block(box).valid
        except ImageFileError:
            if not has_planes(scene):
                raise
            continue  # the pass that reads it says what is wrong
        if valid is None or valid.any():
            return
    raise ConfigError(f"{scene.path}: expected some cells with data, got none: all are NaN or nodata")


def check_format(engine: Engine, grid: Grid, white: float) -> None:
    """Raise ConfigError where black or white of the results lies beyond the number format that they are written in.

    Only an engine that gives a range of its own, with numbers that no picture decides, can be told so beforehand.

    Args:
        engine: the one that restores.
        grid: of the result.
        white: the file's number that the engine sees as 1.
    """
    given = engine.out_range if isinstance(engine, SaysItsRange) else None
    if given is None or given.needs_scene or grid.dtype.kind == "f":
        return
    found = given.fixed
    if not isinstance(found, Range) or found.kind.fitted:
        return
    values = [
        white * (middle + width * end)
        for middle, width in zip(found.middle, found.width, strict=True)
        for end in found.black_white
    ]
    low, high = ((value - grid.intercept) / grid.slope for value in (min(values), max(values)))
    limits = np.iinfo(grid.dtype)
    if low < limits.min - 0.5 or high > limits.max + 0.5:
        raise ConfigError(
            f"the weights give values from {min(values):g} to {max(values):g}, and the result would be written as "
            f"{grid.dtype}, which holds {limits.min} to {limits.max}; choose --bits 32"
        )
