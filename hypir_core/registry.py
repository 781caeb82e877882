"""The one registry class: names to lazily loaded things, listed explicitly."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

from .errors import ConfigError, MissingDependencyError, UnknownNameError, WrongTypeError, nearest_hint

log = logging.getLogger(__name__)

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """One registered thing."""

    name: str
    load: Callable[[], T]
    """Return the thing itself; the import happens here, so that listing costs nothing."""
    summary: str
    """One line for tables and help texts."""
    aliases: tuple[str, ...] = ()
    """Other names of it."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Keywords that `Registry.create` gives it unless the caller does."""
    version: str = "1"
    """Major, or major.minor: written beside what was made with it."""
    needs: str = ""
    """A package without which it cannot be made; "" where there is none."""
    extra: str | None = None
    """The extra of this project that installs that package."""


class Registry(Generic[T]):
    """Names of one kind. Adding a name twice raises; an unknown name answers with the nearest match.

    Args:
        kind: what a name means, for errors.
        group: entry points of installed packages that add names, for instance ``onestep_restore.losses``. They are
            looked at when a name is unknown, or all are listed; one that is here already keeps its meaning.
    """

    def __init__(self, kind: str, *, group: str = ""):
        self.kind = kind
        self._group = group
        self._entries: dict[str, Entry[T]] = {}
        self._names: dict[str, str] = {}
        self._made: dict[str, Any] = {}

    def add(
        self,
        name: str,
        thing: T | Callable[[], T],
        *,
        summary: str = "",
        lazy: bool = False,
        aliases: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,
        version: str = "1",
        needs: str = "",
        extra: str | None = None,
    ) -> None:
        """Register `thing` under `name` and its aliases; with `lazy`, `thing` is a function that returns it.

        Raises:
            ConfigError: the name or an alias is taken, as a name or an alias.
        """
        wanted = (name, *aliases)
        for position, each in enumerate(wanted):
            if each in self._names or each in wanted[:position]:
                raise ConfigError(f"{self.kind} {each!r} is registered twice")
        load: Any = thing if lazy else lambda: thing
        self._entries[name] = Entry(
            name, load, summary, tuple(aliases), dict(defaults or {}), version, needs, extra
        )
        self._names.update(dict.fromkeys(wanted, name))

    def decorator(
        self,
        name: str,
        aliases: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        *,
        version: str = "1",
        summary: str = "",
    ) -> Callable[[C], C]:
        """Return a decorator that adds a class or function; `config` are its defaults.

        Raises:
            WrongTypeError: what is decorated cannot be called.
            ConfigError: as `add`.
        """

        def register(thing: C) -> C:
            if not callable(thing):
                raise WrongTypeError(
                    f"{self.kind} {name!r}: expected a class or a function, got {type(thing).__name__}"
                )
            made: Any = thing
            self.add(name, made, summary=summary, aliases=aliases, defaults=config, version=version)
            return thing

        return register

    def allow(self, name: str, *, key: str) -> None:
        """Import a Python path ``package.module:name`` and register it under itself; other names are left alone.

        It runs that module's code: call it only with what the user wrote, never with what a weight file says. `key`
        is the setting that names it.

        Raises:
            ConfigError: the path leads nowhere.
        """
        if ":" in name and name not in self:
            thing = load_target(name, key=key)
            self.add(name, lambda: thing, summary="by its Python path", lazy=True)

    def get(self, name: str) -> T:
        """Return the thing called `name`.

        Raises:
            UnknownNameError: with the nearest match and the full list.
            MissingDependencyError: the package that it needs is not installed.
        """
        entry = self.entry(name)
        if entry.needs and find_spec(entry.needs) is None:
            raise MissingDependencyError(entry.needs, entry.extra, f"{self.kind} {entry.name!r}")
        return entry.load()

    def create(self, name: str, config: Mapping[str, Any] | None = None, **given: Any) -> Any:
        """Call the thing called `name`: its defaults, over them `config`, over them `given`.

        Raises:
            UnknownNameError, MissingDependencyError: as `get`.
            ConfigError: a keyword that it does not take, or one that is missing; both are named.
        """
        entry, thing = self.entry(name), self.get(name)
        keywords = {**entry.defaults, **(config or {}), **given}
        if not callable(thing):
            raise WrongTypeError(f"{self.kind} {entry.name!r} is a {type(thing).__name__}, nothing to create")
        problems = _keyword_problems(thing, keywords)
        if problems:
            raise ConfigError([f"{self.kind} {entry.name!r}: {problem}" for problem in problems])
        return thing(**keywords)

    def cached(self, name: str, config: Mapping[str, Any] | None = None, **given: Any) -> Any:
        """Return what `create` gives, the same object for the same thing and keywords.

        Raises:
            ConfigError: a keyword that has no value in JSON, or as `create`.
        """
        entry = self.entry(name)
        try:
            key = json.dumps([entry.name, {**entry.defaults, **(config or {}), **given}], sort_keys=True)
        except TypeError as err:
            raise ConfigError(
                f"{self.kind} {entry.name!r}: only plain values can be kept ({err}); use create"
            ) from err
        if key not in self._made:
            self._made[key] = self.create(name, config, **given)
        return self._made[key]

    def add_many(self, things: Mapping[str, T]) -> None:
        """Register all of `things` or, where a name is taken, none.

        Raises:
            ConfigError: lists every name that is taken.
        """
        taken = [f"{self.kind} {name!r} is registered twice" for name in things if name in self._names]
        if taken:
            raise ConfigError(taken)
        for name, thing in things.items():
            self.add(name, thing)

    def remove(self, name: str) -> None:
        """Take out the thing called `name`, with its aliases and what `cached` keeps of it."""
        entry = self.entry(name)
        del self._entries[entry.name]
        self._names = {each: of for each, of in self._names.items() if of != entry.name}
        self._made = {key: made for key, made in self._made.items() if json.loads(key)[0] != entry.name}

    def create_many(self, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return name → what `create` gives for every name, or raise every problem at once.

        Raises:
            ConfigError: lists every name that could not be created, and why.
        """
        made, problems = {}, []
        for name, config in configs.items():
            try:
                made[name] = self.create(name, config)
            except (ConfigError, UnknownNameError, MissingDependencyError) as err:
                problems.extend(str(err).splitlines())
        if problems:
            raise ConfigError(problems)
        return made

    def entry(self, name: str) -> Entry[T]:
        """Return the entry called `name`, or by an alias, without loading it."""
        if name not in self:
            raise UnknownNameError(self.kind, name, self._names)
        return self._entries[self._names[name]]

    def names(self) -> tuple[str, ...]:
        """Return the names, without aliases, in the order they were added."""
        return tuple(entry.name for entry in self)

    def missing(self) -> dict[str, str]:
        """Return name → the sentence that says what to install, for what cannot be made here. Imports nothing."""
        return {
            entry.name: str(MissingDependencyError(entry.needs, entry.extra, f"{self.kind} {entry.name!r}"))
            for entry in self
            if entry.needs and find_spec(entry.needs) is None
        }

    def __iter__(self) -> Iterator[Entry[T]]:
        self._add_plugins()
        return iter(tuple(self._entries.values()))

    def __contains__(self, name: object) -> bool:
        if name not in self._names:
            self._add_plugins()
        return name in self._names

    def _loader(self, point: EntryPoint, source: str) -> Callable[[], Any]:
        """Return what loads the thing of another package, whose faults are named after it."""

        def load() -> Any:
            try:
                return point.load()
            except Exception as err:
                log.warning("%s %r %s cannot be loaded", self.kind, point.name, source, exc_info=True)
                raise ConfigError(
                    f"{self.kind} {point.name!r} {source} cannot be loaded ({type(err).__name__}: {err}); update or "
                    "remove that package"
                ) from err

        return load

    def _add_plugins(self) -> None:
        """Take in the names of installed packages, once."""
        group, self._group = self._group, ""
        if not group:
            return
        for point in entry_points(group=group):
            if point.name not in self._names:
                source = f"from {point.dist.name}" if point.dist else ""
                self._entries[point.name] = Entry(point.name, self._loader(point, source), source)
                self._names[point.name] = point.name


def _keyword_problems(thing: Callable[..., Any], keywords: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with calling `thing` by these keywords; nothing where it does not say what it takes."""
    try:
        known = inspect.signature(thing).parameters
    except ValueError:
        return []
    anything = any(each.kind is each.VAR_KEYWORD for each in known.values())
    takes = tuple(keywords if anything else known)
    problems = [
        f"takes no {name}{nearest_hint(name, takes)}; it takes {', '.join(takes) or 'nothing'}"
        for name in keywords
        if name not in takes
    ]
    lacks = [
        name
        for name, each in known.items()
        if each.default is each.empty
        and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        and name not in keywords
    ]
    return problems + [f"needs {name}" for name in lacks]


def lazy(target: str, package: str | None) -> Callable[[], Any]:
    """Return a loader for ``".module:attribute"`` relative to `package` (pass ``__package__``)."""
    module, _, attribute = target.partition(":")

    def load() -> Any:
        try:
            return getattr(import_module(module, package), attribute)
        except ModuleNotFoundError as err:
            if package is None or err.name is None or not err.name.startswith(package.partition(".")[0]):
                raise
            raise ConfigError(
                f"{module.rpartition('.')[2]!r} is not in the package of ComfyUI's Registry; clone "
                "https://github.com/onestep-restore/onestep-restore into custom_nodes, or choose another"
            ) from err

    return load


def load_target(target: str, *, key: str) -> Any:
    """Return what ``package.module:name`` names; `key` is the setting that names it.

    It runs that module's code: call it only with what the user wrote, never with what a weight file says.

    Raises:
        ConfigError: it is no such text, there is no such module, or nothing of that name in it.
    """
    module, _, name = target.partition(":")
    if not module or not name:
        raise ConfigError(f"{key}: expected package.module:name, got {target!r}")
    try:
        return getattr(import_module(module), name)
    except ImportError as err:
        raise ConfigError(f"{key}: {module} cannot be imported ({err}); install it or mend the path") from err
    except AttributeError as err:
        raise ConfigError(f"{key}: {module} has no {name}; mend the name") from err
