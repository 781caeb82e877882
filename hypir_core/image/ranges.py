"""Ranges: what a file calls black and white, and what a network does.

Every range is one line, ``network = (file - middle) / width``, for all channels or for each. Fixed ones are known
before a picture is; fitted ones (`RangeKind.fitted`) are measured on the whole input, before it is cut into tiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from .. import config as configs
from ..errors import ConfigError, ShapeError
from .histogram import Statistics, Summary, summarise

LEAST_WIDTH = 1e-30
"""Narrower ranges than this would leave float32 when they are applied."""


class RangeKind(str, Enum):
    """How file values become network values."""

    unit = "unit"
    """As they are: [0,1] for pictures."""
    pm1 = "pm1"
    """[0,1] becomes [-1,1]."""
    white = "white"
    """Divided by the value that means white: 255, 65535, 1.0, 10000."""
    minmax = "minmax"
    """The least value becomes 0, the greatest 1."""
    percentile = "percentile"
    """One percentile becomes 0, another 1; a few values lie outside."""
    zscore = "zscore"
    """Less the mean, divided by the standard deviation."""

    @property
    def fitted(self) -> bool:
        """Whether the picture decides the numbers."""
        return self in {RangeKind.minmax, RangeKind.percentile, RangeKind.zscore}


@dataclass(frozen=True, kw_only=True)
class Range:
    """network = (file - middle) / width."""

    __pydantic_config__ = configs.strict

    kind: RangeKind = RangeKind.unit
    """What it was made as."""
    middle: tuple[float, ...] = (0.0,)
    """The file value that the network sees as 0: one for all channels, or one for each."""
    width: tuple[float, ...] = (1.0,)
    """File values per network value, above 0; as many as `middle`."""
    clip: tuple[float, float] | None = None
    """Network values are cut to these limits; None keeps all."""
    notes: tuple[str, ...] = ()
    """What a report must say about it."""

    def __post_init__(self) -> None:
        problems = []
        if len(self.middle) != len(self.width) or not self.middle:
            problems.append(
                f"middle and width must be as many, got {len(self.middle)} and {len(self.width)} numbers"
            )
        problems += [f"middle must be finite, got {m}" for m in self.middle if not math.isfinite(m)]
        problems += [
            f"width must be finite and at least {LEAST_WIDTH:g}, got {w}"
            for w in self.width
            if not LEAST_WIDTH <= w < math.inf
        ]
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            problems.append(f"clip must be a lower and a higher number, got {self.clip}")
        if problems:
            raise ConfigError(problems)

    @property
    def lossless(self) -> bool:
        """Whether `undo` gives back what `apply` was given.

        It does so within 1 ulp of float32 at the largest number on the way, ``max(|x|, |middle|, |x - middle|)``.
        """
        return self.clip is None

    @property
    def identity(self) -> bool:
        """Whether nothing is done."""
        return self.clip is None and set(self.middle) == {0.0} and set(self.width) == {1.0}

    def apply(self, x: Tensor) -> Tensor:
        """Return network values of file values [b c *spatial], float32 or wider; `x` itself if nothing is done.

        Raises:
            ShapeError: the range is for another number of channels.
        """
        if self.identity:
            return x
        x = _floating(x)
        middle, width = self._numbers(x)
        out = ((x.to(middle.dtype) - middle) / width).to(x.dtype)
        return out if self.clip is None else out.clamp(*self.clip)

    def undo(self, y: Tensor) -> Tensor:
        """Return file values of network values [b c *spatial], float32 or wider; `y` itself if nothing is done.

        Raises:
            ShapeError: the range is for another number of channels.
        """
        if self.identity:
            return y
        y = _floating(y)
        middle, width = self._numbers(y)
        return (y.to(middle.dtype) * width + middle).to(y.dtype)

    def _numbers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return middle and width, [1|c, 1 …], in the format to compute in."""
        channels = x.shape[1] if x.ndim > 1 else 0
        if len(self.middle) not in {1, channels}:
            raise ShapeError(
                f"this {self.kind.value} range is for {len(self.middle)} channels, the picture has {channels}; "
                "fit one for all channels"
            )
        exact = all(math.frexp(w)[0] == 0.5 for w in self.width) and all(  # float32 is as good, and quicker
            float(torch.tensor(m, dtype=torch.float32)) == m for m in self.middle
        )
        wide = torch.float64 if x.device.type != "mps" and not exact else x.dtype
        shape = (-1, *[1] * (x.ndim - 2))
        middle, width = (
            torch.tensor(numbers, dtype=wide, device=x.device).view(shape)
            for numbers in (self.middle, self.width)
        )
        return middle, width

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; equal ranges give equal texts."""
        return configs.to_plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Range:
        """Read what `to_json` gave.

        Raises:
            ConfigError: it is something else.
        """
        return configs.build(cls, data, where="range")


UNIT = Range()
PM1 = Range(kind=RangeKind.pm1, middle=(0.5,), width=(0.5,))


@dataclass(frozen=True, kw_only=True)
class RangeConfig:
    """Which range a network wants; saved with its weights."""

    __pydantic_config__ = configs.strict

    kind: RangeKind = RangeKind.unit
    white: float | None = None
    """`white` only: the value that the network sees as 1."""
    percents: tuple[float, float] = (0.1, 99.9)
    """`percentile` only: which percentiles become black and white."""
    per_channel: bool = True
    """Fitted kinds: each channel for itself, or all as one."""
    symmetric: bool = False
    """`white`, `minmax` and `percentile`: black becomes -1 rather than 0."""
    clip: bool = False
    """Fixed and percentile kinds: values beyond black and white are cut, which cannot be undone."""

    def __post_init__(self) -> None:
        problems = []
        if (self.kind is RangeKind.white) != (self.white is not None):
            problems.append(f"white belongs to the range 'white', got {self.white} with {self.kind.value!r}")
        if self.white is not None and not LEAST_WIDTH <= self.white < math.inf:
            problems.append(f"white must be above 0, got {self.white}")
        if not 0 <= self.percents[0] < self.percents[1] <= 100:
            problems.append(f"percents must be two rising numbers in 0 … 100, got {self.percents}")
        if self.clip and self.kind is RangeKind.zscore:
            problems.append("clip: a z-score has no black and white to cut at; leave it out")
        if problems:
            raise ConfigError(problems)

    @property
    def fixed(self) -> Range:
        """The range of a kind that needs no picture.

        Raises:
            ConfigError: it has to be fitted.
        """
        if self.kind.fitted:
            raise ConfigError(f"the range {self.kind.value!r} must be fitted on a picture")
        if self.kind is RangeKind.white:
            assert self.white is not None
            return self._between((0.0,), (self.white,))
        symmetric = self.kind is RangeKind.pm1
        limits = ((-1.0, 1.0) if symmetric else (0.0, 1.0)) if self.clip else None
        base = PM1 if symmetric else UNIT
        return Range(kind=self.kind, middle=base.middle, width=base.width, clip=limits)

    def _between(
        self, black: tuple[float, ...], white: tuple[float, ...], notes: tuple[str, ...] = ()
    ) -> Range:
        """Return the range that makes `black` 0 (or -1) and `white` 1, channel by channel."""
        pairs = list(zip(black, white, strict=True))
        if self.symmetric:
            middle, width = [(b + w) / 2 for b, w in pairs], [(w - b) / 2 for b, w in pairs]
            limits = (-1.0, 1.0)
        else:
            middle, width = [b for b, _ in pairs], [w - b for b, w in pairs]
            limits = (0.0, 1.0)
        return Range(
            kind=self.kind,
            middle=tuple(middle),
            width=tuple(width),
            clip=limits if self.clip else None,
            notes=notes,
        )


def fit(config: RangeConfig, statistics: Statistics) -> Range:
    """Return the range of one picture.

    A channel without width is given less: no width between percentiles, then its extremes; no width there either, then
    its values as they are. Notes say so.

    Args:
        config: which range.
        statistics: of the whole picture; fixed kinds do not look at it.
    """
    if not config.kind.fitted:
        return config.fixed
    channels = statistics.channels
    groups = [(c,) for c in channels] if config.per_channel else [channels] if channels else []
    percents = config.percents if config.kind is RangeKind.percentile else ()
    numbers, notes = [], []
    for number, group in enumerate(groups):
        which = f" of channel {number + 1}" if len(groups) > 1 else ""
        numbers.append(_fit_one(config, summarise(group, percents), which, notes))
    if not numbers:
        return Range(kind=config.kind, notes=(_as_they_are(config, ""),))
    first, second = (tuple(pair[i] for pair in numbers) for i in (0, 1))
    if config.kind is RangeKind.zscore:
        return Range(kind=config.kind, middle=first, width=second, notes=tuple(notes))
    return config._between(first, second, tuple(notes))


def _fit_one(config: RangeConfig, summary: Summary, which: str, notes: list[str]) -> tuple[float, float]:
    """Return black and white, or mean and deviation; what had to be given up goes to `notes`."""
    if config.kind is RangeKind.zscore:
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


def _as_they_are(config: RangeConfig, which: str) -> str:
    return f"range: the values{which} are all equal, so {config.kind.value!r} left them as they are"


def _floating(x: Tensor) -> Tensor:
    """Return float32, or float64 where the values need it."""
    if x.dtype == torch.float64:
        return x
    return x.double() if x.dtype in {torch.int32, torch.int64} else x.float()
