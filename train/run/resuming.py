"""Which settings a resumed run must share with its checkpoint; an older release's checkpoint lacks some."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

from hypir_core.config import to_plain

from ..config import TrainConfig

MAY_CHANGE = (
    "base_model",
    "cpu",
    "output_dir",
    "max_steps",
    "threads",
    "data.root",
    "data.roots",
    "data.source.lq_root",
    "data.source.path_prefix",
    "data.workers",
    "data.cache_mb",
    "validation",
    "checkpoint",
    "tracking",
    "export",
)
"""Keys (with everything below them) that may differ when a run is resumed."""


DATA_HASH = "data.root (hash of names and sizes)"
BASE_HASH = "base_model (hash of norms and biases)"


def resume_settings(config: TrainConfig, *, data_hash: str, base_hash: str = "") -> dict[str, Any]:
    """Return the settings that must be the same when the run is resumed, as dotted keys, JSON-able."""
    kept = _that_matter(_flat(json.loads(json.dumps(to_plain(config)))))
    return kept | {DATA_HASH: data_hash} | ({BASE_HASH: base_hash} if base_hash else {})


def refusals(then: Mapping[str, Any], now: Mapping[str, Any], *, checkpoint: str) -> list[str]:
    """Return one line for each setting that keeps a run with `now` from going on from `checkpoint`.

    Args:
        then: the checkpoint's `resume_settings`, maybe by an older release. What they lack counts as today's
            default.
        now: those of the run.
        checkpoint: its name.
    """
    then = _that_matter(then)
    known = _flat(_with_defaults(_nested(then), TrainConfig))
    before = then | known
    problems = []
    for key in sorted(then.keys() | now.keys()):
        was = f"with {before[key]!r}" if key in before else "without it"
        made = f"{key}: the checkpoint {checkpoint} was made {was}"
        if key not in known and key not in now and key != BASE_HASH:
            problems.append(
                f"{made}, and this release does not know that setting; go on with the release that made it "
                "(run.json names its commit), or start again in another output_dir"
            )
        elif not _same(key, before, now):
            today = repr(now[key]) if key in now else "not set"
            problems.append(f"{made}, now it is {today}; set it back, or use another output_dir")
    return problems


def _same(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Say whether both agree on `key`; where one of them has settings below it, those tell what differs."""
    if key in before and key in now:
        return before[key] == now[key]
    return any(other.startswith(f"{key}.") for other in (before if key in now else now))


def _that_matter(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in settings.items()
        if not any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE)
    }


def _with_defaults(value: Any, kind: Any) -> Any:
    """Return plain `value` of type `kind` with the defaults of absent fields, without what no field takes."""
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is dict and isinstance(value, Mapping):
        return {name: _with_defaults(below, inner[1]) for name, below in value.items()}
    cls = next((each for each in (kind, *inner) if dataclasses.is_dataclass(each)), None)
    if cls and isinstance(value, list):
        return [_with_defaults(each, cls) for each in value]
    if cls and isinstance(value, Mapping):
        kinds = typing.get_type_hints(cls)
        given = {name: _with_defaults(value[name], kinds[name]) for name in value.keys() & kinds.keys()}
        return _defaults(cls) | given
    return value


def _defaults(cls: Any) -> dict[str, Any]:
    """Return the defaults of a dataclass's fields, plain; fields without one are left out."""
    out = {}
    for each in dataclasses.fields(cls):
        if each.default is not dataclasses.MISSING:
            out[each.name] = to_plain(each.default)
        elif each.default_factory is not dataclasses.MISSING:
            out[each.name] = to_plain(each.default_factory())
    return out


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, below in value.items():
        if isinstance(below, dict) and below:
            out |= _flat(below, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = below
    return out


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `_flat`."""
    out: dict[str, Any] = {}
    for key, value in flat.items():
        *above, last = key.split(".")
        place = out
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    return out
