"""A stack of one channel that a command reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..files.scenes.scene import Scene


@contextmanager
def opened_scene(path: Path, axes: str, *, what: str) -> Iterator[Scene]:
    """Open a stack for the block; `what` it should be, for the error.

    Raises:
        ConfigError: it is no stack.
        FileError: it cannot be read.
    """
    from ..errors import ConfigError
    from ..files.scenes.axes import Wanted
    from ..files.scenes.catalog import open_scene
    from ..files.scenes.recognise import scene_format

    wanted = Wanted(axes=axes, channels=1)
    name = scene_format(path, wanted, file_values=True)
    if name is None:
        raise ConfigError(f"{path}: expected {what} as TIFF, OME-TIFF, Zarr or HDF5; check the path")
    scene = open_scene(path, wanted, format_name=name)
    try:
        yield scene
    finally:
        scene.close()
