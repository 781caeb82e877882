"""The one registry class: names to lazily loaded things, listed explicitly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, TypeVar

from .errors import ConfigError, UnknownNameError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """One registered thing."""

    name: str
    load: Callable[[], T]
    """Return the thing itself; the import happens here, so that listing costs nothing."""
    summary: str
    """One line for tables and help texts."""


class Registry(Generic[T]):
    """Names of one kind. Adding a name twice raises; an unknown name answers with the nearest match."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def add(self, name: str, thing: T | Callable[[], T], *, summary: str = "", lazy: bool = False) -> None:
        """Register `thing` under `name`; with `lazy`, `thing` is a function that returns it."""
        if name in self._entries:
            raise ConfigError(f"{self.kind} {name!r} is registered twice")
        load: Any = thing if lazy else lambda: thing
        self._entries[name] = Entry(name, load, summary)

    def get(self, name: str) -> T:
        """Return the thing called `name`.

        Raises:
            UnknownNameError: with the nearest match and the full list.
        """
        return self.entry(name).load()

    def entry(self, name: str) -> Entry[T]:
        """Return the entry called `name` without loading it."""
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """Return the names in the order they were added."""
        return tuple(self._entries)

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(self._entries.values())

    def __contains__(self, name: object) -> bool:
        return name in self._entries


def lazy(target: str, package: str | None) -> Callable[[], Any]:
    """Return a loader for ``".module:attribute"`` relative to `package` (pass ``__package__``)."""
    module, _, attribute = target.partition(":")
    return lambda: getattr(import_module(module, package), attribute)
