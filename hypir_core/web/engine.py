"""The engine of the page: loaded when it is first wanted, kept until another one is."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import torch

from ..device import pick_device
from ..engines.base import Engine
from ..engines.catalog import ENGINES, engine_options, load_engine
from ..errors import ConfigError
from ..weights.download.sources import Fetch
from .settings import PageSettings


class HeldEngine:
    """One engine at a time: two would need the memory of both."""

    def __init__(self, settings: PageSettings, fetch: Fetch | None):
        self.device: torch.device = pick_device(settings.device)
        self._settings = settings
        self._fetch = fetch
        self._lock = threading.Lock()
        self._wanted: tuple[str, dict[str, Any]] | None = None
        self._engine: Engine | None = None

    def get(self, name: str, options: Mapping[str, Any]) -> Engine:
        """Return the engine with these settings and those that it was given at the start.

        Raises:
            ConfigError: it was not given what it needs; or as `load_engine`.
            UnknownNameError, WeightsError: as `load_engine`.
        """
        wanted = (name, self._all(name, options))
        with self._lock:
            if self._engine is None or self._wanted != wanted:
                self._engine, self._wanted = None, None  # its memory is free before the next one is loaded
                self._engine = load_engine(
                    name, wanted[1], device=self.device, dtype=self._settings.dtype, fetch=self._fetch
                )
                self._wanted = wanted
            return self._engine

    def shapes(self, name: str, options: Mapping[str, Any]) -> Engine:
        """Return the engine if it is loaded, else its shapes without numbers; errors as `get`."""
        wanted = (name, self._all(name, options))
        engine = self._engine
        if engine is not None and self._wanted == wanted:
            return engine
        settings = engine_options(name, wanted[1])
        return ENGINES.get(name).skeleton()(settings, self.device, self._settings.dtype, None)

    def _all(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        needed = self._settings.still_needed(name)
        if needed:
            flags = " and ".join(f"{flag} …" for flag in needed)
            raise ConfigError(f"{name} needs {flags}: stop the page and start it with `hypir web {flags}`")
        return {**options, **self._settings.options_for(name)}
