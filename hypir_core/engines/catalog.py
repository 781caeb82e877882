"""The one list of engines. Adding an engine is one file, one entry here, one preset, one test file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from ..config import build, strict
from ..errors import ConfigError
from ..registry import Registry, lazy
from .base import Engine


class EngineLoader(Protocol):
    """Loads one kind of engine."""

    def __call__(self, options: Any, device: torch.device, dtype: str) -> tuple[Engine, torch.dtype]:
        """Return the engine and the format it runs in (`dtype` may be ``auto``)."""
        ...


@dataclass(frozen=True, kw_only=True)
class EngineEntry:
    """One line of the catalog."""

    options: type
    """Dataclass of the settings that only this engine has; its fields hold the defaults."""
    load: Callable[[], EngineLoader]
    """Import the loader: nothing heavy is imported to list the engines."""
    missing: Callable[[], tuple[str, ...]] = field(default=lambda: ())
    """Say what is missing before the engine can be used, one line each with the command that mends it."""


@dataclass(frozen=True, kw_only=True)
class BuiltInOptions:
    """The built-in restorer has no settings of its own."""

    __pydantic_config__ = strict


@dataclass(frozen=True, kw_only=True)
class UpscalerOptions:
    """Settings of `upscaler`."""

    __pydantic_config__ = strict

    weights: Path
    """A super-resolution model file: one exported by `train`, or any that spandrel reads."""


ENGINES: Registry[EngineEntry] = Registry("engine")
ENGINES.add(
    "built-in",
    EngineEntry(options=BuiltInOptions, load=lazy(".generator_files:load_built_in", __package__)),
    summary="the small restorer inside this package: ×4, no download",
)
ENGINES.add(
    "upscaler",
    EngineEntry(options=UpscalerOptions, load=lazy(".generator_files:load_upscaler", __package__)),
    summary="any super-resolution model file (--option weights=FILE)",
)


def load_engine(
    name: str, *, options: Mapping[str, Any], device: torch.device, dtype: str = "auto"
) -> tuple[Engine, torch.dtype]:
    """Load the engine called `name`.

    Args:
        name: from the catalog.
        options: the engine's own settings; unknown keys are errors.
        device: where it will run.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.

    Returns:
        The engine and the number format it runs in.

    Raises:
        UnknownNameError: no such engine.
        ConfigError: an option is unknown or wrong.
        WeightsError: the weights cannot be used.
    """
    entry = ENGINES.get(name)
    try:
        settings = build(entry.options, options, where=f"engine {name}")
    except ConfigError as err:
        raise ConfigError([f"{problem} (set with --option KEY=VALUE)" for problem in err.problems]) from err
    return entry.load()(settings, device, dtype)
