"""Presets: which file a name means, what its relative paths start from, and what ``key=value`` does to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hypir_core.config import load_yaml, parse_assignments
from hypir_core.errors import ConfigError, UnknownNameError, nearest_hint

PRESETS = Path(__file__).parent.parent / "presets"

MODALITIES = Path(__file__).parent.parent / "modalities"
"""Settings that a kind of data starts from, one file each: ``data.kind`` names it."""

NAMED_PARTS = ("discriminators", "losses")
"""Keys whose entries have names of one's own, so that ``null`` can take one away."""

PATH_KEYS = frozenset(
    {
        "base_model",
        "root",
        "lq_root",
        "path_prefix",
        "weights",
        "backbone",
        "lora",
        "recipe",
        "recipes",
        "statistics",
        "psf",
    }
)
"""Last parts of the keys whose texts may be files or folders beside the preset."""


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets in ``train/presets``, sorted."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


def with_modality(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings on top of those of the modality that ``data.kind`` names, if it names one.

    Raises:
        UnknownNameError: there is no such modality.
    """
    data = settings.get("data")
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if kind is None:
        return dict(settings)
    known = tuple(sorted(path.stem for path in MODALITIES.glob("*.yaml")))
    if kind not in known:
        raise UnknownNameError("data.kind", str(kind), known)
    return _lay_on(load_yaml(MODALITIES / f"{kind}.yaml"), settings)


def find_preset(preset: str) -> Path:
    """Return the file that `preset` means: a path, or the name of one in ``train/presets``.

    Raises:
        UnknownNameError: there is no preset of this name; with the nearest name and the list.
        ConfigError: there is no file at this path; with the same.
    """
    path = Path(preset)
    if path.is_file():
        return path
    named = PRESETS / f"{preset.removesuffix('.yaml')}.yaml"
    if named.parent == PRESETS and named.is_file():
        return named
    if path.name == preset and not path.suffix:
        raise UnknownNameError("preset", preset, preset_names())
    known = preset_names()
    raise ConfigError(
        f"{preset}: there is no such file{nearest_hint(path.stem, known)}; presets by name: {', '.join(known)}"
    )


def read_preset(path: Path) -> dict[str, Any]:
    """Read a preset, YAML or JSON; ``extends: NAME`` lays it on another one.

    A relative path that leads to something from the preset's own folder is taken from there.

    Raises:
        ConfigError: the file cannot be read, is no mapping, or extends itself on a way around.
        UnknownNameError: it extends a preset that does not exist.
    """
    return _read_on(path, ())


def _read_on(path: Path, before: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in before:
        raise ConfigError(f"{path}: extends itself; name another preset")
    settings = {key: _from_folder(key, value, path.parent) for key, value in load_yaml(path).items()}
    base = settings.pop("extends", None)
    if base is None:
        return settings
    beside = path.parent / str(base)
    found = find_preset(str(beside) if beside.is_file() else str(base))
    return _lay_on(_read_on(found, (*before, path.resolve())), settings)


def apply_assignments(settings: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Lay ``key=value`` words on `settings`, one after the other.

    A mapping is laid on the mapping that is there, key by key. ``{}`` empties it: ``discriminators={}`` leaves
    none, ``data.pool={}`` goes back to the defaults. ``null`` removes an entry of `NAMED_PARTS`:
    ``losses.lpips=null``. Everything else, lists included, replaces what was there.

    Raises:
        ConfigError: a word is not ``key=value``, or removes what is not there.
    """
    out = dict(settings)
    for word in assignments:
        before, out = out, _lay_on(out, parse_assignments([word]))
        for part in NAMED_PARTS:
            if isinstance(entries := out.get(part), Mapping):
                out[part] = _without_removed(entries, part, before.get(part))
    return out


def _lay_on(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        joined = isinstance(below, Mapping) and isinstance(value, Mapping) and value
        out[key] = _lay_on(below, value) if joined else value  # pyright: ignore[reportArgumentType]
    return out


def _without_removed(entries: Mapping[str, Any], part: str, before: Any) -> dict[str, Any]:
    names = [str(name) for name in before] if isinstance(before, Mapping) else []
    for name, entry in entries.items():
        if entry is None and name not in names:
            raise ConfigError(
                f"{part}.{name}=null: there is no {part}.{name} to remove{nearest_hint(name, names)}; "
                f"there is: {', '.join(names) or 'none'}"
            )
    return {name: entry for name, entry in entries.items() if entry is not None}


def _from_folder(key: str, value: Any, folder: Path) -> Any:
    """Return `value` with every path of `PATH_KEYS` that exists in `folder` made whole."""
    if isinstance(value, Mapping):
        return {name: _from_folder(str(name), below, folder) for name, below in value.items()}
    if isinstance(value, list):
        return [_from_folder(key, each, folder) for each in value]
    if not (isinstance(value, str) and value and key in PATH_KEYS):
        return value
    beside = folder / value
    return str(beside.resolve()) if beside.exists() else value
