"""What is done to every picture of a run, in a form that another process can be sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..allocator import give_back_freed_memory, keep_freed_memory
from ..checks import check_tiles
from ..debug import inspector
from ..device import pick_device
from ..engines.base import Engine
from ..engines.catalog import load_engine
from ..engines.chain import Chain, Link
from ..profile import ProfilePart
from ..progress import Progress, silent
from ..request import Request
from ..runtime import Runtime
from ..weights.download.sources import Fetch


@dataclass(frozen=True, kw_only=True)
class Then:
    """An engine that goes on with what the one before it made."""

    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)
    request: Request | None = None
    """What is asked of it alone; None: what is asked of the whole."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """An engine that is not loaded yet, and what it is asked for."""

    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)
    request: Request = field(default_factory=Request)
    part: ProfilePart = field(default_factory=ProfilePart)
    """What a profile says of numbers and memory."""
    device: str = "auto"
    """As `pick_device` takes it; asked where the work is done."""
    dtype: str | None = None
    """None: the profile's."""
    batch_tiles: int | None = None
    then: tuple[Then, ...] = ()
    """Engines after the first, in their order."""

    def where(self) -> torch.device:
        """Return the device.

        Raises:
            ConfigError: it is not there.
        """
        return pick_device(self.device)

    def load(self, *, fetch: Fetch | None = None) -> Engine:
        """Load the engine, or the chain of them.

        Raises:
            HypirError: whatever `load_engine` raises; the tile cannot be had; engines that cannot follow each other.
        """
        keep_freed_memory()
        first = self._loaded(self.engine, self.options, self.request, fetch)
        if not self.then:
            return first
        links = [Link(engine=first)]
        for then in self.then:
            engine = self._loaded(then.engine, then.options, then.request or self.request, fetch)
            links.append(Link(engine=engine, request=then.request))
        chain = Chain(tuple(links))
        chain.requests(self.request)  # so is a size or a strength that no chain has
        return chain

    def _loaded(self, name: str, options: Mapping[str, Any], request: Request, fetch: Fetch | None) -> Engine:
        where = self.where()
        dtype = self.dtype or self.part.runtime.dtype_on(where)
        engine = load_engine(name, options, device=where, dtype=dtype, fetch=fetch)
        check_tiles(engine, request)  # a tile that cannot be had is a usage error, not each picture's
        return engine

    def runtime(self, *, progress: Progress = silent) -> Runtime:
        """Return what a run of this work is given."""
        where = self.where()
        return Runtime(
            device=where,
            batch_tiles=self.batch_tiles,
            memory_budget_bytes=self.part.runtime.budget_on(where),
            progress=progress,
            tidy=give_back_freed_memory,
            inspect=inspector(),
        )
