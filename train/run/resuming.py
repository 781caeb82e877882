"""Which settings a resumed run must share with its checkpoint; an older release's checkpoint lacks some."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
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
NOT_SET = "not set"
ON_REQUEST = "go on all the same with checkpoint.resume=all, or use another output_dir"


def resume_settings(config: TrainConfig, *, data_hash: str, base_hash: str = "") -> dict[str, Any]:
    """Return the settings that must be the same when the run is resumed, as dotted keys, JSON-able."""
    kept = _that_matter(_flat(json.loads(json.dumps(to_plain(config)))))
    return kept | {DATA_HASH: data_hash} | ({BASE_HASH: base_hash} if base_hash else {})


@dataclass(frozen=True, kw_only=True)
class Change:
    """One setting that differs from the checkpoint's."""

    key: str
    was: str
    """As a person would write it, or `NOT_SET`."""
    now: str
    known: bool
    """Whether this release knows the setting."""

    @property
    def is_about_data(self) -> bool:
        """Whether the pictures, their order or the batches are others."""
        return self.key.startswith("data.") or self.key in {"seed", DATA_HASH}


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return what differs between two runs, of what must be the same for an exact one.

    Args:
        then: the checkpoint's `resume_settings`, maybe by an older release. What they lack counts as today's
            default.
        now: those of the run.
    """
    then = _that_matter(then)
    known = _flat(_with_defaults(_nested(then), TrainConfig))
    before = then | known
    found = []
    for key in sorted(then.keys() | now.keys()):
        unknown = key not in known and key not in now and key != BASE_HASH
        if unknown or not _same(key, before, now):
            was, today = (repr(each[key]) if key in each else NOT_SET for each in (before, now))
            found.append(Change(key=key, was=was, now=today, known=not unknown))
    return found


def refusals(then: Mapping[str, Any], now: Mapping[str, Any], *, checkpoint: str) -> list[str]:
    """Return one line for each setting that keeps a run with `now` from going on exactly from `checkpoint`."""
    problems = []
    for change in changes(then, now):
        was = "without it" if change.was == NOT_SET else f"with {change.was}"
        made = f"{change.key}: the checkpoint {checkpoint} was made {was}"
        if change.known:
            problems.append(f"{made}, now it is {change.now}; set it back, or {ON_REQUEST}")
        else:
            problems.append(
                f"{made}, and this release does not know that setting; go on with the release that made it "
                f"(run.json names its commit), or {ON_REQUEST}"
            )
    return problems


def optimiser_of(key: str) -> str:
    """Return the player whose kind of optimiser the setting `key` is, or nothing."""
    player, kind, _ = key.partition(".optimiser.kind")
    return player.removeprefix("discriminators.") if kind else ""


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
