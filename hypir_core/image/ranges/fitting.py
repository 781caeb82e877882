"""Fit a range: on a picture that is read block by block, on a data set, or on a file of statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ...errors import ShapeError
from ..histogram import Channel, Statistics, Summary, summarise
from .config import FitOn, RangeConfig
from .curve import Curve, rising
from .kinds import AnyRange, RangeKind
from .line import LEAST_WIDTH, Range
from .statistics_file import read_statistics

QUANTILES = 257
"""Knots of a histogram's curve before those that are equal become one."""

NEEDS = {
    RangeKind.minmax: ("low", "high"),
    RangeKind.percentile: ("quantiles",),
    RangeKind.histogram: ("quantiles",),
    RangeKind.zscore: ("mean", "deviation"),
    RangeKind.moments: ("mean", "deviation"),
}
"""What a file of statistics must have for a kind."""

MOST_BEYOND = 0.05
"""More values than this beyond black and white of numbers that were fitted elsewhere are worth a note."""

MOST_CUT = 0.001
"""The same where a fixed range cuts them."""


def fit(config: RangeConfig, statistics: Statistics) -> AnyRange:
    """Return the range of one picture.

    A channel without width is given less: no width between percentiles, then its extremes; no width there either, then
    its values as they are. Notes say so.

    Args:
        config: which range.
        statistics: of the whole picture; ranges whose numbers are known do not look at it.
    """
    return _fitted(config, statistics) if config.needs_scene else config.fixed


def settle(config: RangeConfig, statistics: Statistics | None = None) -> RangeConfig:
    """Return the config with the numbers that a data set or a file of statistics gives; others as they are.

    Args:
        config: which range.
        statistics: of the whole data set; a range of `fit: dataset` needs them.

    Raises:
        ConfigError: the file of statistics cannot be read, or lacks what the kind needs.
    """
    if config.fit is FitOn.file and config.statistics is not None:
        statistics = read_statistics(config.statistics, needs=NEEDS[config.kind])
    if config.fit is FitOn.scene or config.saved is not None or statistics is None:
        return config
    return replace(config, statistics=None, saved=_fitted(config, statistics))


def notes_on(found: AnyRange, statistics: Statistics) -> tuple[str, ...]:
    """Return what a report must say of a picture that a range was not fitted on: how much of it lies far outside.

    Args:
        found: the range; only lines have black and white.
        statistics: of the whole picture.
    """
    if not isinstance(found, Range) or not statistics.channels:
        return ()
    share = _share_beyond(found, statistics.channels)
    if share <= (MOST_CUT if found.clip and not found.kind.fitted else MOST_BEYOND):
        return ()
    done = "were cut" if found.clip else "lie outside"
    return (
        f"range: {100 * share:.3g} % of the values {done}, beyond the black and white of {found.kind.value!r}; "
        "check the units of the file",
    )


def _fitted(config: RangeConfig, statistics: Statistics) -> Range | Curve:
    channels = statistics.channels
    groups = [(c,) for c in channels] if config.per_channel else [channels] if channels else []
    if not groups:
        return Range(kind=config.kind, notes=(_as_they_are(config, ""),))
    summaries = [summarise(group, _percents_of(config)) for group in groups]
    names = [f" of channel {number}" if len(groups) > 1 else "" for number in range(1, len(groups) + 1)]
    if config.kind is RangeKind.histogram:
        return _curve(config, summaries, names)
    notes: list[str] = []
    numbers = [
        _fit_one(config, summary, which, notes) for summary, which in zip(summaries, names, strict=True)
    ]
    first, second = (tuple(pair[i] for pair in numbers) for i in (0, 1))
    if config.kind is RangeKind.zscore:
        return config.line(first, second, (-config.deviations, config.deviations), tuple(notes))
    if config.kind is RangeKind.moments:
        return _to_moments(config, numbers, tuple(notes))
    return config.between(first, second, tuple(notes))


def _percents_of(config: RangeConfig) -> tuple[float, ...]:
    if config.kind is RangeKind.histogram:
        return tuple(100 * number / (QUANTILES - 1) for number in range(QUANTILES))
    return config.percents if config.kind is RangeKind.percentile else ()


def _fit_one(config: RangeConfig, summary: Summary, which: str, notes: list[str]) -> tuple[float, float]:
    """Return black and white, or mean and deviation; what had to be given up goes to `notes`."""
    if config.kind in {RangeKind.zscore, RangeKind.moments}:
        if summary.count and summary.high > summary.low and summary.deviation >= LEAST_WIDTH:
            return summary.mean, summary.deviation
        notes.append(_as_they_are(config, which))
        return 0.0, 1.0
    if summary.percentiles and summary.percentiles[1] - summary.percentiles[0] >= LEAST_WIDTH:
        return summary.percentiles[0], summary.percentiles[1]
    if summary.count and summary.high - summary.low >= LEAST_WIDTH:
        if summary.percentiles:
            notes.append(
                f"range: the percentiles {config.percents[0]:g} and {config.percents[1]:g} of the values{which} "
                "are equal; the least and the greatest value were taken"
            )
        return summary.low, summary.high
    notes.append(_as_they_are(config, which))
    return (-1.0, 1.0) if config.symmetric else (0.0, 1.0)


def _to_moments(config: RangeConfig, numbers: Sequence[tuple[float, float]], notes: tuple[str, ...]) -> Range:
    """Return the line that gives every channel the reference's mean and deviation; a flat one is left as it is."""
    assert config.reference is not None
    wanted = _for_each(config.reference, len(numbers))
    middles, widths = [], []
    for (mean, deviation), (target, spread) in zip(numbers, wanted, strict=True):
        as_it_is = (mean, deviation) == (0.0, 1.0)
        width = 1.0 if as_it_is else deviation / spread
        widths.append(width)
        middles.append(0.0 if as_it_is else mean - target * width)
    return config.line(tuple(middles), tuple(widths), (0.0, 1.0), notes)


def _curve(config: RangeConfig, summaries: Sequence[Summary], names: Sequence[str]) -> Range | Curve:
    """Return the curve from ranks of the picture to the same ranks of the reference."""
    references = _for_each(config.reference or ((0.0, 1.0),), len(summaries))
    file, network, notes = [], [], []
    for summary, reference, which in zip(summaries, references, names, strict=True):
        knots = []
        if summary.percentiles and summary.high > summary.low:
            knots = rising(
                list(zip(summary.percentiles, _resampled(reference, len(summary.percentiles)), strict=True))
            )
        if len(knots) < 2:
            notes.append(_as_they_are(config, which))
            knots = [(0.0, 0.0), (1.0, 1.0)]
        file.append(tuple(x for x, _ in knots))
        network.append(tuple(y for _, y in knots))
    ends = min(values[0] for values in references), max(values[-1] for values in references)
    return Curve(kind=config.kind, file=tuple(file), network=tuple(network), ends=ends, notes=tuple(notes))


def _for_each(reference: Sequence[Sequence[float]], count: int) -> list[Sequence[float]]:
    """Return a reference for each group.

    Raises:
        ShapeError: there are neither one nor as many as groups.
    """
    if len(reference) not in {1, count}:
        raise ShapeError(
            f"the reference of the range is for {len(reference)} channels, the picture has {count}; "
            "give one for all channels"
        )
    return list(reference) * (count if len(reference) == 1 else 1)


def _resampled(values: Sequence[float], count: int) -> list[float]:
    """Return values at `count` even ranks from values at fewer or more."""
    given = torch.tensor(list(values), dtype=torch.float64)
    place = torch.linspace(0, len(values) - 1, count, dtype=torch.float64)
    below = place.floor().long().clamp(max=len(values) - 2)
    return (given[below] + (given[below + 1] - given[below]) * (place - below)).tolist()


def _share_beyond(found: Range, channels: Sequence[Channel]) -> float:
    """Return how many of all values lie more than a rounding beyond black and white, 0 … 1."""
    many = len(found.middle) > 1
    black, white = found.clip or found.black_white
    beyond = total = 0.0
    for number, channel in enumerate(channels):
        middle, width = found.middle[number if many else 0], found.width[number if many else 0]
        for values, counts in channel.weighted():
            network = (values - middle) / width
            slack = 1e-6 * (white - black)
            beyond += float(counts[(network < black - slack) | (network > white + slack)].sum())
            total += float(counts.sum())
    return beyond / total if total else 0.0


def _as_they_are(config: RangeConfig, which: str) -> str:
    return f"range: the values{which} are all equal, so {config.kind.value!r} left them as they are"
