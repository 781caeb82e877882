"""The numbers that ranges need of a data set: read once, kept beside the run."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from hypir_core.config import build, to_plain
from hypir_core.errors import ConfigError, ImageFileError
from hypir_core.image.histogram import Statistics
from hypir_core.image.ranges import FitOn, RangesConfig

from ..config import TrainConfig
from .degrading import Mixture
from .levels import to_01
from .pairs import PairSequence
from .source import Source

NAME = "ranges.json"
"""In the run folder: the ranges with the numbers of the data set, and the hash of what they were found on."""

MOST = 4096
"""Pictures or tiles that are read, evenly spread."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Both:
    """Of the low- and of the high-quality halves."""

    lr: Statistics
    hr: Statistics


def settled_ranges(config: TrainConfig, source: Source, mixture: Mixture, *, write: bool) -> RangesConfig:
    """Return the run's ranges with every number that is known before the first step.

    Statistics of the data set are taken from the run's folder where they were found on the same data, else measured.

    Raises:
        ConfigError: a file of statistics lacks what is needed, a custom range cannot be undone, or nothing can be read.
    """
    ranges = config.ranges
    ranges.allow_custom()
    for key, each in (("ranges.lr", ranges.lr), ("ranges.hr", ranges.hr)):
        if each is not None and each.needs_scene:
            raise ConfigError(
                f"{key}: a batch has no scene to fit {each.kind.value} on; set {key}.fit to dataset, or to file with "
                "statistics"
            )
    if not ranges.needs_dataset:
        return ranges.settled()
    path, found_on = config.output_dir / NAME, f"{source.hash} {json.dumps(to_plain(ranges), sort_keys=True)}"
    if (kept := _kept(path, found_on)) is not None:
        return kept
    both = measure(config, source, mixture)
    settled = ranges.settled(both.lr, both.hr)
    for each in (settled.lr, settled.hr):
        for note in each.saved.notes if each is not None and each.saved is not None else ():
            log.warning("%s", note)
    if write:
        config.output_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"found_on": found_on, "ranges": to_plain(settled)}, indent=1), encoding="utf-8"
        )
    return settled


def measure(
    config: TrainConfig, source: Source, mixture: Mixture, *, most: int = MOST, with_lr: bool | None = None
) -> Both:
    """Read up to `most` pictures or tiles, whole, with the partners that they have or get.

    Raises:
        ConfigError: none of them can be read.
    """
    both = Both(Statistics(), Statistics())
    sequence = PairSequence(source, config.data, mixture, seed=config.seed)
    needs_lr = config.ranges.lr.fit is FitOn.dataset if with_lr is None else with_lr
    count, read = min(most, len(source)), 0
    for place in range(count):
        try:
            item = source.item(place * len(source) // count)
        except ImageFileError as err:
            log.warning("data.root: skipped %s", err)
            continue
        read += 1
        valid = None if item.valid is None else item.valid[None]
        both.hr.add(to_01(item.hq)[None], valid)
        if item.lq is not None:
            both.lr.add(to_01(item.lq)[None])
        elif needs_lr:
            made, _ = sequence.pair(place)
            assert made.lq is not None
            both.lr.add(to_01(made.lq)[None])
    if not read:
        raise ConfigError(f"data.root: none of {count} pictures of {source.where} can be read")
    return both


def _kept(path: Path, found_on: str) -> RangesConfig | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValueError as err:
        raise ConfigError(
            f"output_dir: {path} is damaged ({err}); remove it, and the data set is read again"
        ) from err
    if data.get("found_on") != found_on:
        return None
    return build(RangesConfig, data["ranges"], where=str(path))
