"""Open a scene to train on: of any format that is restored, or a NumPy array."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hypir_core.errors import ImageFileError
from hypir_core.files.scenes.axes import Wanted
from hypir_core.files.scenes.catalog import open_scene
from hypir_core.files.scenes.recognise import scene_format
from hypir_core.files.scenes.scene import ArrayScene, Scene

ARRAYS = (".npy", ".npz")


def open_any(path: Path, wanted: Wanted) -> Scene:
    """Open a scene of any format, or a NumPy array with the axes that the wish names.

    Raises:
        ImageFileError: it is none, or cannot be read.
    """
    if path.suffix.lower() in ARRAYS:
        return _open_array(path, wanted)
    name = scene_format(path, wanted, file_values=True)
    if name is None:
        raise ImageFileError("is no raster, volume or stack that can be read")
    return open_scene(path, wanted, format_name=name)


def _open_array(path: Path, wanted: Wanted) -> ArrayScene:
    try:
        loaded = np.load(path, mmap_mode="r" if path.suffix.lower() == ".npy" else None, allow_pickle=False)
        array = (
            loaded[wanted.dataset or next(iter(loaded.files))] if path.suffix.lower() == ".npz" else loaded
        )
    except (OSError, ValueError, KeyError, StopIteration) as err:
        raise ImageFileError(f"cannot be read ({err})") from err
    order = wanted.axes.lower() or _order_of(array.shape, wanted)
    if len(order) != array.ndim:
        raise ImageFileError(
            f"has the shape {list(array.shape)}, and source.axes names {len(order)} axes ({order.upper()})"
        )
    return ArrayScene(path, array, order, bands=wanted.bands)


def _order_of(shape: Sequence[int], wanted: Wanted) -> str:
    spatial = "zyx"[-wanted.dims :]
    if len(shape) == wanted.dims:
        return spatial
    if len(shape) == wanted.dims + 1:
        first, last = shape[0] == wanted.channels, shape[-1] == wanted.channels
        if first != last:
            return f"c{spatial}" if first else f"{spatial}c"
    raise ImageFileError(
        f"has the shape {list(shape)}, in which {wanted.channels} channels and {wanted.dims} axes are alike; "
        f"set source.axes, for instance C{spatial.upper()}"
    )
