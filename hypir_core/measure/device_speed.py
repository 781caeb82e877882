"""How fast this machine is, measured once and remembered in the user's cache folder.

Two figures: the rate of a large matrix product per device and format, and, per engine's stage, the share of
it that was reached. The first is measured when it is asked for and not known; the second by ``hypir bench``.
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
from ..errors import ImageFileError
from ..weights.download.sources import cache_folder
from .matrix_rate import matrix_flops_per_second

log = logging.getLogger(__name__)

FILE = "device_speed.json"


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
