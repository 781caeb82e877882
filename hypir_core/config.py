"""The one config loader: a mapping or YAML file becomes a frozen dataclass, or one error with every problem.

Defaults live in the dataclass fields. A key that no field takes is an error. Checks that span fields are
written in ``__post_init__`` and raise `ConfigError` (or `ValueError`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from .errors import ConfigError, UnknownNameError, nearest_hint

C = TypeVar("C")

PRESETS = Path(__file__).parent / "presets"

strict = {"extra": "forbid", "arbitrary_types_allowed": True}
"""Value of ``__pydantic_config__`` for a dataclass that is read by `build`: unknown keys are errors."""


def build(cls: type[C], data: Mapping[str, Any], *, where: str = "config") -> C:
    """Make a `cls` (a dataclass whose ``__pydantic_config__`` is `strict`) from plain data.

    Raises:
        ConfigError: lists every unknown key (with the nearest one), wrong type and failed check.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(cls).validate_python(dict(data))
    except ValidationError as err:
        raise ConfigError([f"{where}: {_explain(problem, cls)}" for problem in err.errors()]) from err


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, or is not a mapping.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read ({err.strerror or err})") from err
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: is not valid YAML ({str(err).splitlines()[0]})") from err
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values, got {type(data).__name__}")
    return data


def preset(cls: type[C], kind: str, name: str, overrides: Mapping[str, Any] | None = None) -> C:
    """Build a `cls` from ``presets/<kind>/<name>.yaml``, with `overrides` merged on top."""
    names = preset_names(kind)
    if name not in names:
        raise UnknownNameError(f"{kind} preset", name, names)
    data = load_yaml(PRESETS / kind / f"{name}.yaml")
    return build(cls, merge(data, overrides or {}), where=f"{kind} preset {name}")


def preset_names(kind: str) -> tuple[str, ...]:
    """Return the names of the presets of one kind, sorted."""
    return tuple(sorted(path.stem for path in (PRESETS / kind).glob("*.yaml")))


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on top, mapping by mapping; lists are replaced whole."""
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        out[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return out


def parse_assignments(items: Sequence[str]) -> dict[str, Any]:
    """Turn ``["data.root=photos", "max_steps=40"]`` into nested mappings; values are read as YAML.

    Raises:
        ConfigError: an item has no ``=``, or its value is not YAML.
    """
    import yaml

    out: dict[str, Any] = {}
    for item in items:
        key, sep, text = item.partition("=")
        if not sep or not key:
            raise ConfigError(f"{item!r}: expected KEY=VALUE, for instance max_steps=1000")
        try:
            value: Any = yaml.safe_load(text) if text else ""
        except yaml.YAMLError as err:
            raise ConfigError(f"{item!r}: the value is not valid YAML") from err
        for part in reversed(key.split(".")):
            value = {part: value}
        out = merge(out, value)
    return out


def to_plain(value: Any) -> Any:
    """Turn dataclasses, enums, paths and tuples into what JSON and YAML can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return value


def _explain(problem: Mapping[str, Any], cls: type) -> str:
    loc = [part for part in problem["loc"] if not (isinstance(part, str) and "[" in part)]
    key = ".".join(str(part) for part in loc) or "value"
    if problem["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        known = _fields_at(cls, loc[:-1])
        return f"unknown key {key!r}{nearest_hint(str(loc[-1]), known)}; known: {', '.join(known) or 'none'}"
    if problem["type"] in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        return f"{key} is required"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message if key == "value" else f"{key}: {message}"
    return f"{key}: {message[0].lower()}{message[1:]} (got {problem['input']!r})"


def _fields_at(cls: Any, loc: Sequence[Any]) -> list[str]:
    """Return the field names of the dataclass reached from `cls` through `loc`."""
    import typing

    for part in loc:
        if not isinstance(part, str):
            continue
        hint = typing.get_type_hints(cls).get(part) if dataclasses.is_dataclass(cls) else None
        options = [hint, *typing.get_args(hint)] if hint is not None else []
        cls = next((option for option in options if dataclasses.is_dataclass(option)), None)
    return [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
