"""Profiles: wishes, memory and settings that go together, under one name.

A profile stands below what a person says and above the defaults. It is written for certain engines and for no other; all
lengths are pixels of the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import PRESETS, build, load_yaml, preset_names, strict, to_plain
from .engines.catalog import ENGINES, engine_options
from .errors import ConfigError, UnknownNameError
from .request import Request

if TYPE_CHECKING:
    import torch

KIND = "restore"
"""Folder of the profiles that come with this package, below ``presets``."""

ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What a profile says about the machine."""

    __pydantic_config__ = strict

    gpu_dtype: str = "auto"
    """Number format on a GPU; a CPU takes the quickest that the engine was tested in."""
    gpu_budget_bytes: int | None = None
    """Working memory that a batch of tiles may take on a GPU, beside the weights; None takes what is free. Not read on a
    CPU."""
    batch_tiles: int | None = None
    """Tiles per batch; None takes as many as the memory allows."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be at least 1, got {value}"
            for name, value in (
                ("gpu_budget_bytes", self.gpu_budget_bytes),
                ("batch_tiles", self.batch_tiles),
            )
            if value is not None and value < 1
        ]
        if problems:
            raise ConfigError(problems)

    def dtype_on(self, device: torch.device) -> str:
        """Return the name of the number format on a device."""
        return "auto" if device.type == "cpu" else self.gpu_dtype

    def budget_on(self, device: torch.device) -> int | None:
        """Return the working memory that a batch may take on a device; None asks the device."""
        return None if device.type == "cpu" else self.gpu_budget_bytes


@dataclass(frozen=True, kw_only=True)
class ProfilePart:
    """What a profile says to one engine."""

    __pydantic_config__ = strict

    request: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a `Request`."""
    runtime: RunSettings = field(default_factory=RunSettings)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the engine."""

    def wish(self) -> Request:
        """Return the request of someone who says nothing else."""
        return build(Request, self.request, where="request")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Wishes, memory and settings for one engine or several."""

    __pydantic_config__ = strict

    summary: str = ""
    """One line for tables."""
    engines: Mapping[str, ProfilePart]
    """Engine → what is said to it. The first is taken where nobody names an engine."""

    def __post_init__(self) -> None:
        if not self.engines:
            raise ConfigError("engines: name at least one engine")

    @property
    def first_engine(self) -> str:
        """The engine of someone who names none."""
        return next(iter(self.engines))

    def part(self, engine: str, *, name: str) -> ProfilePart:
        """Return what is said to an engine; `name` is the profile's, for the error.

        Raises:
            ConfigError: nothing is said to it.
        """
        if engine not in self.engines:
            known = " or ".join(self.engines)
            raise ConfigError(f"profile {name!r} is for {known}, not for {engine}; choose --engine {known}")
        return self.engines[engine]


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that come with this package, sorted."""
    return preset_names(KIND)


def load_profile(name: str) -> Profile:
    """Return the profile called `name`, or the one in the YAML file `name`, with everything in it checked.

    Raises:
        UnknownNameError: no profile has this name, or it names an engine that is not there.
        ConfigError: the file cannot be read, or a key or value in it is wrong: all problems at once.
    """
    if name.lower().endswith(ENDINGS):
        path = Path(name).expanduser()
    elif name in profile_names():
        path = PRESETS / KIND / f"{name}.yaml"
    else:
        raise UnknownNameError("profile", name, profile_names())
    where = f"profile {name}"
    profile = build(Profile, load_yaml(path), where=where)
    problems: list[str] = []
    for engine, part in profile.engines.items():
        if engine not in ENGINES:
            raise UnknownNameError(f"engine in profile {name}:", engine, ENGINES.names())
        for check in (
            part.wish,
            lambda e=engine, p=part: build(ENGINES.get(e).options, p.options, where="options"),
        ):
            try:
                check()
            except ConfigError as err:
                problems += [f"{where}: {engine}: {problem}" for problem in err.problems]
    if problems:
        raise ConfigError(problems)
    return profile


def resolved(engine: str, part: ProfilePart) -> dict[str, Any]:
    """Return everything that a part comes to, with the defaults below it, as JSON holds it."""
    return {
        "request": to_plain(part.wish()),
        "runtime": to_plain(part.runtime),
        "options": to_plain(engine_options(engine, part.options)),
    }


def stated(part: ProfilePart) -> dict[str, Any]:
    """Return setting → value of what a part says itself, dotted: ``tile.tile_px``, ``gpu_dtype``, ``steps``."""
    runtime, default = to_plain(part.runtime), to_plain(RunSettings())
    said = {key: value for key, value in runtime.items() if value != default[key]}
    return _flat(part.request) | said | dict(part.options)


def _flat(data: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in data.items():
        out |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return out
