"""Ranges by name: the ways of bringing reflectances to a network that OpenSR's models were trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator

from ...config import to_plain
from ...errors import UnknownNameError
from .config import RangeConfig
from .custom import CUSTOM_RANGES
from .kinds import RangeKind

_WHITE_10K = RangeConfig(kind=RangeKind.white, white=10_000.0, clip=True, file_clip=(0.0, 10_000.0))
_STRETCHED = RangeConfig(kind=RangeKind.white, white=0.3, clip=True, file_clip=(0.0, 1.0))
_UNIT = RangeConfig(clip=True, file_clip=(0.0, 1.0))

NAMED: Mapping[str, RangeConfig] = {
    "identity": RangeConfig(),
    "normalise_10k": _WHITE_10K,
    "normalise_10k_signed": replace(_WHITE_10K, symmetric=True),
    "sen2_stretch": _STRETCHED,
    "normalise_s2": replace(_STRETCHED, symmetric=True),
    "zero_one": _UNIT,
    "zero_one_signed": replace(_UNIT, kind=RangeKind.pm1),
}
"""What opensr-srgan calls them; every one of them but the first cuts, so it cannot be undone outside its window."""

ALIASES = {
    "normalize_10k": "normalise_10k",
    "reflectance": "normalise_10k",
    "reflectance_0_1": "normalise_10k",
    "sentinel2": "normalise_10k",
    "s2": "normalise_10k",
    "reflectance_signed": "normalise_10k_signed",
    "normalize_10k_signed": "normalise_10k_signed",
    "sentinel2_signed": "normalise_10k_signed",
    "s2_signed": "normalise_10k_signed",
    "normalize_s2": "normalise_s2",
    "zero_to_one": "zero_one",
    "zero_one_range": "zero_one",
    "signed_zero_one": "zero_one_signed",
    "minusone_one": "zero_one_signed",
    "none": "identity",
}


def named_range(name: str) -> RangeConfig:
    """Return the range called `name`: one of `NAMED`, an alias, a plain kind, or a registered one.

    Raises:
        UnknownNameError: nothing is called that.
    """
    name = ALIASES.get(name, name)
    if name in NAMED:
        return NAMED[name]
    if name in CUSTOM_RANGES:
        return RangeConfig.from_json({"kind": "custom", "custom": {"function": name}})
    if name in {kind.value for kind in RangeKind}:
        return RangeConfig(kind=RangeKind(name))
    known = {*NAMED, *ALIASES, *CUSTOM_RANGES.names(), *(kind.value for kind in RangeKind)}
    raise UnknownNameError("range", name, known)


def _as_config(given: Any) -> Any:
    """Return the mapping of a name, or of a mapping whose kind is a name that is no kind."""
    if isinstance(given, str):
        return to_plain(named_range(given))
    if isinstance(given, Mapping) and isinstance(kind := given.get("kind"), str):
        if kind in {each.value for each in RangeKind}:
            return given
        return to_plain(named_range(kind)) | {key: value for key, value in given.items() if key != "kind"}
    return given


RangeSetting = Annotated[RangeConfig, BeforeValidator(_as_config)]
"""A `RangeConfig` that settings may also state by a name: ``ranges: {lr: normalise_10k}``."""
