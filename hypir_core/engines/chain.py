"""Engines one after the other: each restores what the one before it made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

from ..config import to_plain
from ..errors import ConfigError, ShapeError
from ..image.size import TargetSize
from ..request import Request
from ..tiling.geometry import Readable
from ..tiling.stage import Stage
from .base import Engine, EngineSpec, Prepared
from .leaving import leave_device


@dataclass(frozen=True, kw_only=True, eq=False)
class Link:
    """One engine of a chain."""

    engine: Engine
    request: Request | None = None
    """What is asked of this engine, without a size; None: what is asked of the chain."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Two engines or more, which are reported, resumed and written as one.

    It has no stages of its own: `chained.restore_chain` takes pictures through it, `batch` takes files.

    Raises:
        ConfigError: there are fewer than two; a link asks for a size of its own.
        ShapeError: an engine cannot take what the one before it makes.
    """

    links: tuple[Link, ...]

    def __post_init__(self) -> None:
        if len(self.links) < 2:
            raise ConfigError(f"a chain is two engines or more, got {len(self.links)}")
        for link in self.links:
            if link.request is not None and link.request.target != TargetSize():
                raise ConfigError(
                    f"engine {link.engine.spec.name!r} in a chain: the size that is asked for is the whole chain's; "
                    "leave target out of its part, and say --scale"
                )
        for before, after in pairwise(link.engine.spec for link in self.links):
            made, taken = before.out_channels, after.in_channels
            one_by_one = (
                taken == after.out_channels == 1
            )  # of scenes; a picture's channels are checked with it
            if made != taken and not one_by_one and (made, taken) != (1, 3):
                raise ShapeError(
                    f"engine {after.name!r} takes {taken} channel{'s' * (taken > 1)}, and {before.name!r} before it "
                    f"makes {made}; choose another order, or weights of {made} channel{'s' * (made > 1)}"
                )

    @property
    def spec(self) -> EngineSpec:
        """Facts about the whole; every engine is named, with its settings and what is asked of it."""
        specs = [link.engine.spec for link in self.links]
        return EngineSpec(
            name=_told([spec.name for spec in specs]),
            weights=_told([spec.weights for spec in specs]),
            dtype=", ".join(dict.fromkeys(spec.dtype for spec in specs)),
            settings={
                label: {
                    **spec.settings,
                    **({} if link.request is None else {"request": to_plain(link.request)}),
                }
                for label, spec, link in zip(self.labels, specs, self.links, strict=True)
            },
            in_channels=specs[0].in_channels,
            out_channels=specs[-1].out_channels,
            bands=specs[0].bands,
            axes=max(spec.axes for spec in specs),
            default_scale=prod(spec.default_scale for spec in specs),
            wants_prompt=any(spec.wants_prompt for spec in specs),
            one_by_one=any(spec.one_by_one for spec in specs),
            networks_bytes={
                f"{label}: {name}": size
                for label, spec in zip(self.labels, specs, strict=True)
                for name, size in spec.networks_bytes.items()
            },
            file_values=specs[0].file_values,
            licence="; ".join(dict.fromkeys(spec.licence for spec in specs)),
            notes=tuple(dict.fromkeys(note for spec in specs for note in spec.notes)),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """A word for every link, also where an engine comes twice: ``1 pixel``, ``2 built-in``."""
        return tuple(f"{number} {link.engine.spec.name}" for number, link in enumerate(self.links, 1))

    def requests(self, request: Request) -> tuple[Request, ...]:
        """Return what is asked of every link.

        The size is the last one's, edges are enhanced before the first, the result is sharpened after the last.

        Raises:
            ConfigError: a strength below 1: there is no one input to mix with; the engines before the last make more
                than the scale that is asked for.
        """
        target, last = request.target, len(self.links) - 1
        if target.scale is not None:
            before = prod(link.engine.spec.default_scale for link in self.links[:-1])
            rest = target.scale / before
            if rest < 1:
                raise ConfigError(
                    f"scale {target.scale:g}: expected {before:g} or more, which the engines before "
                    f"{self.links[-1].engine.spec.name!r} make; leave scale out, or ask for more"
                )
            target = TargetSize(scale=rest)
        wishes = [request if link.request is None else link.request for link in self.links]
        if any(wish.strength != 1 for wish in wishes):
            raise ConfigError(
                "a chain of engines has no one input to mix its result with: leave strength out"
            )
        return tuple(
            replace(
                wish,
                target=target if number == last else TargetSize(),
                edge_enhance=request.edge_enhance if number == 0 else 0.0,
                sharpen=request.sharpen if number == last else 0.0,
            )
            for number, wish in enumerate(wishes)
        )

    def prepare(self, image: Readable, size_px: tuple[int, ...], request: Request) -> Prepared:
        """Raise ConfigError: only what goes engine by engine takes a chain."""
        raise ConfigError(f"{self.spec.name}: a chain of engines restores pictures, scenes and stacks only")

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Raise ConfigError, as `prepare`."""
        raise ConfigError(f"{self.spec.name}: a chain of engines restores pictures, scenes and stacks only")

    def leave(self) -> None:
        """Send the networks of every engine home; see `engines.leaving`."""
        for link in self.links:
            leave_device(link.engine)


def _told(names: Sequence[str]) -> str:
    return ", then ".join(names)
