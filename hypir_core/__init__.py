"""One-Step Restore: the library under the ComfyUI nodes, the command line and the training.

>>> from hypir_core import Request, Runtime, load_engine, restore
>>> engine = load_engine("built-in", device=device)
>>> restored = restore(engine, image_01, Request(), Runtime(device=device))

Importing this package is light: every name below is imported when it is first used. No module is named like
a function listed here, because importing a module would hide the function.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import VERSION

if TYPE_CHECKING:
    from .color.mode import ColorFix
    from .config import build, preset, preset_names
    from .device import pick_device, pick_dtype
    from .engines.base import Engine, EngineSpec, Prepared
    from .engines.catalog import ENGINES, load_engine
    from .errors import HypirError
    from .files.picture import to_planes
    from .files.reading import read_picture
    from .files.writing import write_picture
    from .image.size import TargetSize
    from .pipeline import Restored, restore
    from .registry import Registry
    from .request import Report, Request, picture_text
    from .runtime import Runtime
    from .streaming import restore_stream
    from .tiling.geometry import Box, Plane
    from .tiling.plan import TileConfig, TilePlan, TileWish, plan_tiles
    from .tiling.run import run_stage
    from .tiling.stage import Stage
    from .tiling.window import Window

__version__ = VERSION

_HOME = {
    "Box": ".tiling.geometry",
    "ColorFix": ".color.mode",
    "ENGINES": ".engines.catalog",
    "Engine": ".engines.base",
    "EngineSpec": ".engines.base",
    "HypirError": ".errors",
    "Plane": ".tiling.geometry",
    "Prepared": ".engines.base",
    "Registry": ".registry",
    "Report": ".request",
    "Request": ".request",
    "Restored": ".pipeline",
    "Runtime": ".runtime",
    "Stage": ".tiling.stage",
    "TargetSize": ".image.size",
    "TileConfig": ".tiling.plan",
    "TilePlan": ".tiling.plan",
    "TileWish": ".tiling.plan",
    "Window": ".tiling.window",
    "build": ".config",
    "load_engine": ".engines.catalog",
    "pick_device": ".device",
    "pick_dtype": ".device",
    "picture_text": ".request",
    "plan_tiles": ".tiling.plan",
    "preset": ".config",
    "preset_names": ".config",
    "read_picture": ".files.reading",
    "restore": ".pipeline",
    "restore_stream": ".streaming",
    "run_stage": ".tiling.run",
    "to_planes": ".files.picture",
    "write_picture": ".files.writing",
}

__all__ = [  # a literal list, kept sorted; a test compares it with _HOME
    "ENGINES",
    "Box",
    "ColorFix",
    "Engine",
    "EngineSpec",
    "HypirError",
    "Plane",
    "Prepared",
    "Registry",
    "Report",
    "Request",
    "Restored",
    "Runtime",
    "Stage",
    "TargetSize",
    "TileConfig",
    "TilePlan",
    "TileWish",
    "Window",
    "build",
    "load_engine",
    "pick_device",
    "pick_dtype",
    "picture_text",
    "plan_tiles",
    "preset",
    "preset_names",
    "read_picture",
    "restore",
    "restore_stream",
    "run_stage",
    "to_planes",
    "write_picture",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
