"""Ranges of one's own: functions or a class, by a registered name or a Python path."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from ... import config as configs
from ...errors import ConfigError
from ...registry import Registry

CUSTOM_RANGES: Registry[Any] = Registry("range", group="onestep_restore.ranges")
"""Name → a class whose objects have `apply` and `undo`, or a function that is one of the two."""

F = TypeVar("F", bound=Callable[..., Any])


def register_ranges(name: str, *, summary: str = "") -> Callable[[F], F]:
    """Return a decorator that makes a class or a function known under `name`; the kind `custom` takes it."""
    return CUSTOM_RANGES.decorator(name, summary=summary)


@dataclass(frozen=True, kw_only=True)
class CustomConfig:
    """What the kind `custom` is made of."""

    __pydantic_config__ = configs.strict

    function: str
    """A registered name or ``package.module:name``: a class with `apply` and `undo`, or the way to the network."""
    inverse: str | None = None
    """The way back, where `function` is a function."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments: of the class, or of both functions."""
    ends: tuple[float, float] = (0.0, 1.0)
    """What black and white become."""

    def __post_init__(self) -> None:
        if not -math.inf < self.ends[0] < self.ends[1] < math.inf:
            raise ConfigError(f"ends must be a lower and a higher number, got {self.ends}")


@dataclass(frozen=True, kw_only=True)
class Custom:
    """A range of somebody else's making."""

    config: CustomConfig
    to_network: Callable[[Tensor], Tensor]
    to_file: Callable[[Tensor], Tensor]
    lossless: bool = False
    """What it says of itself; nobody else can know."""
    notes: tuple[str, ...] = ()

    @property
    def black_white(self) -> tuple[float, float]:
        """The network values of black and white."""
        return self.config.ends

    def apply(self, x: Tensor) -> Tensor:
        """Return network values of file values [b c *spatial]."""
        return self.to_network(x)

    def undo(self, y: Tensor) -> Tensor:
        """Return file values of network values [b c *spatial]."""
        return self.to_file(y)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold: the names, not the code."""
        return configs.to_plain(self.config)


def allow_custom(config: CustomConfig, *, key: str = "ranges") -> None:
    """Import the Python paths that the user wrote, and register them under themselves.

    Weight files are trusted with names only: without this, a path in one is refused.

    Raises:
        ConfigError: a path leads nowhere.
    """
    for name in (config.function, config.inverse):
        if name:
            CUSTOM_RANGES.allow(name, key=key)


def custom_range(config: CustomConfig) -> Custom:
    """Make the range from what is registered.

    Raises:
        UnknownNameError: nothing of that name is registered.
        ConfigError: there is no way back, the path was not allowed, or the options do not fit.
    """
    thing = _registered(config.function)
    if config.inverse is not None:
        back = _registered(config.inverse)
        return Custom(
            config=config,
            to_network=lambda x: thing(x, **config.options),
            to_file=lambda y: back(y, **config.options),
        )
    try:
        made: Any = thing(**config.options) if isinstance(thing, type) else thing
    except TypeError as err:
        raise ConfigError(f"the custom range {config.function!r} does not take its options: {err}") from err
    missing = [name for name in ("apply", "undo") if not callable(getattr(made, name, None))]
    if missing:
        raise ConfigError(
            f"the custom range {config.function!r} has no {' and no '.join(missing)}, so results could not become file "
            "values; name the way back as inverse, or a class with apply and undo"
        )
    return Custom(
        config=config,
        to_network=made.apply,
        to_file=made.undo,
        lossless=bool(getattr(made, "lossless", False)),
    )


def _registered(name: str) -> Any:
    if ":" in name and name not in CUSTOM_RANGES:
        raise ConfigError(
            f"the custom range {name!r} is code that a weight file names, and code is run only if you ask for it; "
            f"call allow_custom, or install a package that registers it"
        )
    return CUSTOM_RANGES.get(name)
