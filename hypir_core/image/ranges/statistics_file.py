"""Statistics as a file: what a scan of a data set found, or what somebody published about one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...atomic import atomic_file
from ...config import load_yaml
from ...errors import ConfigError, FileError
from ..histogram import Channel, Statistics, summarise

RANKS = 1001
"""Quantiles per band that are kept: one per 0.1 %, so that the usual percentiles are knots."""

NAMES = {"std": "deviation", "min": "low", "max": "high", "deviations": "deviation", "means": "mean"}
"""Other words for the keys of a file."""

ROWS = ("mean", "deviation", "low", "high")
"""What the rows of an .npy file are; the last two may be absent."""


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write lists per band as JSON: count, mean, deviation, low, high and quantiles at 1001 even ranks.

    Raises:
        FileError: the file cannot be written.
    """
    percents = [100 * rank / (RANKS - 1) for rank in range(RANKS)]
    found = [summarise((channel,), percents) for channel in statistics.channels if channel.count]
    data = {name: [getattr(summary, name) for summary in found] for name in ("count", *ROWS)}
    data["quantiles"] = [list(summary.percentiles) for summary in found]
    with atomic_file(path, error=FileError) as file:
        file.write(json.dumps(data).encode())


def read_statistics(path: Path, *, needs: Sequence[str] = ()) -> Statistics:
    """Read what `write_statistics` wrote, or lists per band under the same names (also std, min, max).

    A JSON or YAML mapping, a .pt file with such a mapping, or an .npy array [2|4, bands] of means, deviations and,
    where there are four rows, least and greatest values. What is absent is not known: extremes are infinitely far.

    Args:
        path: the file.
        needs: keys that the file must have.

    Raises:
        ConfigError: it cannot be read, lacks something, or its lists differ in length.
    """
    lists = {NAMES.get(str(key), str(key)): value for key, value in _read(path).items()}
    try:
        numbers = {name: [float(v) for v in lists[name]] for name in ("count", *ROWS) if name in lists}
        ranks = [[float(v) for v in band] for band in lists.get("quantiles", ())]
    except (TypeError, ValueError) as err:
        raise ConfigError(
            f"{path}: expected lists of numbers, one per band, got something else ({err})"
        ) from err
    given = {name: len(values) for name, values in numbers.items()} | (
        {"quantiles": len(ranks)} if ranks else {}
    )
    if not given or len(set(given.values())) > 1:
        raise ConfigError(
            f"{path}: expected lists of one length, one number per band, got "
            f"{', '.join(f'{length} of {name}' for name, length in given.items()) or 'none of ' + ', '.join(ROWS)}"
        )
    missing = [name for name in needs if name not in given]
    if missing:
        raise ConfigError(
            f"{path}: has no {' and no '.join(missing)}, which this range is fitted on; add them"
        )
    statistics = Statistics()
    bands = next(iter(given.values()))
    statistics.channels = tuple(
        _channel(
            number,
            {name: values[number] for name, values in numbers.items()},
            ranks[number] if ranks else [],
        )
        for number in range(bands)
    )
    return statistics


def _channel(number: int, about: Mapping[str, float], ranks: list[float]) -> Channel:
    count = max(int(about.get("count", 0)), len(ranks), 2)
    low = about.get("low", ranks[0] if ranks else -math.inf)
    high = about.get("high", ranks[-1] if ranks else math.inf)
    return Channel(
        seed=number,
        count=count,
        mean=about.get("mean", (low + high) / 2),
        squares=about.get("deviation", 0.0) ** 2 * count,
        low=low,
        high=high,
        _sampled=count if ranks else 0,
        _sample=torch.tensor(ranks, dtype=torch.float64),
        _keys=torch.zeros(len(ranks), dtype=torch.float64),
    )


def _read(path: Path) -> Mapping[str, Any]:
    ending = path.suffix.lower()
    if ending not in {".json", ".yaml", ".yml", ".npy", ".pt"}:
        raise ConfigError(f"{path}: expected statistics as .json, .yaml, .npy or .pt; use one of these")
    if ending in {".json", ".yaml", ".yml"}:
        return load_yaml(path)  # JSON is YAML
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; check the path of the statistics")
    if ending == ".pt":
        data = _unpickled(path)
        if not isinstance(data, Mapping):
            raise ConfigError(f"{path}: expected a mapping of names to lists, got {type(data).__name__}")
        return data
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as err:
        raise ConfigError(f"{path}: cannot be read as an array ({err}); write it with numpy.save") from err
    if array.ndim != 2 or len(array) not in {2, 4}:
        raise ConfigError(f"{path}: expected an array [2|4, bands], got {list(array.shape)}")
    return dict(zip(ROWS, array.tolist(), strict=False))


def _unpickled(path: Path) -> Any:
    import pickle

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as err:
        first = str(err).splitlines()[0]
        raise ConfigError(f"{path}: cannot be read ({first}); save plain lists or tensors") from err
