"""How fast this machine is, measured once and remembered in the user's cache folder.

Three figures: the rate of a large matrix product per device and format; per engine's stage, the share of it that was
reached; and how long a pixel of a result took last time. The first is measured when it is asked for and not known, the
second by ``hypir bench``, the third by whoever restores and wants to tell the time of the next run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..atomic import atomic_file
from ..device import describe_device
from ..engines.base import EngineSpec
from ..errors import ImageFileError
from ..weights.download.sources import cache_folder
from .matrix_rate import matrix_flops_per_second

log = logging.getLogger(__name__)

FILE = "device_speed.json"

PACE_CHANGED = 0.2
"""A pace is written again where it differs by more than this part."""


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating-point operations per second of a matrix product on this device, remembered."""
    known, key = _read(), _key(device, dtype)
    rate = known.get("matrix_flops_per_second", {}).get(key)
    if not isinstance(rate, (int, float)):
        rate = matrix_flops_per_second(device, dtype)
        _write(known, "matrix_flops_per_second", key, rate)
    return float(rate)


def shares_of_matrix_rate(engine: str, device: torch.device, dtype: torch.dtype) -> Mapping[str, float]:
    """Return stage name → share of the matrix rate that ``hypir bench`` last reached here; empty if never run."""
    found = _read().get("shares", {}).get(f"{engine}, {_key(device, dtype)}")
    return found if isinstance(found, dict) else {}


def remember(
    engine: str, device: torch.device, dtype: torch.dtype, *, rate: float, shares: Mapping[str, float]
) -> None:
    """Keep what a benchmark measured: the matrix rate, and the share of it that each stage reached."""
    known, key = _read(), _key(device, dtype)
    known = _write(known, "matrix_flops_per_second", key, rate)
    _write(known, "shares", f"{engine}, {key}", dict(shares))


def pace_of(spec: EngineSpec, device: torch.device) -> float | None:
    """Return the seconds per pixel of the result that these weights last took here; None if never run."""
    found = _read().get("paces", {}).get(_pace_key(spec, device))
    return float(found) if isinstance(found, (int, float)) else None


def remember_pace(spec: EngineSpec, device: torch.device, seconds_per_px: float) -> None:
    """Keep how long a pixel of the result took."""
    before = pace_of(spec, device)
    if before is None or abs(seconds_per_px - before) > PACE_CHANGED * before:
        _write(_read(), "paces", _pace_key(spec, device), seconds_per_px)


def _pace_key(spec: EngineSpec, device: torch.device) -> str:
    return f"{spec.name}, {spec.weights}, {_key(device, getattr(torch, spec.dtype))}"


def _key(device: torch.device, dtype: torch.dtype) -> str:
    return f"{describe_device(device)}, {str(dtype).removeprefix('torch.')}, torch {torch.__version__}"


def _path() -> Path:
    return cache_folder() / FILE


def _read() -> dict[str, Any]:
    try:
        known = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet, or not whole: it is measured again
        return {}
    return known if isinstance(known, dict) else {}


def _write(known: Mapping[str, Any], section: str, key: str, value: Any) -> dict[str, Any]:
    entries = known.get(section)
    changed = {**known, section: {**(entries if isinstance(entries, dict) else {}), key: value}}
    try:
        with atomic_file(_path()) as file:
            file.write(json.dumps(changed, indent=2).encode())
    except ImageFileError as err:  # a cache: without it the next run measures again
        log.warning("the measured speed is not remembered: %s", err)
    return changed
