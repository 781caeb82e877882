"""Which range a network wants, as it is written in settings and saved with weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ... import config as configs
from ...errors import ConfigError
from .curve import Curve
from .custom import CustomConfig, custom_range
from .kinds import AnyRange, RangeKind
from .line import LEAST_WIDTH, PM1, UNIT, Range


class FitOn(str, Enum):
    """What decides the numbers of a fitted kind."""

    scene = "scene"
    """each picture, scene or volume for itself, as a whole"""
    dataset = "dataset"
    """all that is trained on; the numbers are saved with the weights"""
    file = "file"
    """a file of statistics; the numbers are saved with the weights"""


@dataclass(frozen=True, kw_only=True)
class RangeConfig:
    """Which range a network wants; saved with its weights."""

    __pydantic_config__ = configs.strict

    kind: RangeKind = RangeKind.unit
    white: float | None = None
    """`white` only: the value that the network sees as 1."""
    window: tuple[float, float] | None = None
    """`window` only: its centre and its width, in file values, for instance [40, 400] Hounsfield units."""
    percents: tuple[float, float] = (0.1, 99.9)
    """`percentile` only: which percentiles become black and white."""
    deviations: float = 5.0
    """`zscore` only: so many standard deviations from the mean count as black and white."""
    reference: tuple[tuple[float, ...], ...] | None = None
    """`moments`: [mean, deviation]; `histogram`: values at even ranks, least to greatest, None for an even spread
    over [0,1]. One list for all channels, or one for each."""
    custom: CustomConfig | None = None
    """`custom` only."""
    per_channel: bool = True
    """Fitted kinds: each channel for itself, or all as one."""
    symmetric: bool = False
    """`white`, `window`, `minmax` and `percentile`: black becomes -1 rather than 0."""
    clip: bool = False
    """Values beyond black and white are cut, which cannot be undone; not for `moments`, `histogram` and `custom`."""
    file_clip: tuple[float, float] | None = None
    """Fixed kinds: results are cut to these file values; None leaves them."""
    fit: FitOn = FitOn.scene
    """Fitted kinds: what they are fitted on."""
    statistics: Path | None = None
    """`fit: file` only: JSON or YAML with lists per band (mean, deviation, low, high, quantiles), .npy or .pt."""
    saved: Range | Curve | None = None
    """The numbers that were found on a data set or in a file; nobody writes them by hand."""

    def __post_init__(self) -> None:
        kind = RangeKind(self.kind)
        problems = [
            f"{name} belongs to the range {name!r}, got {getattr(self, name)} with {kind.value!r}"
            for name in ("white", "window", "custom")
            if (kind.value == name) != (getattr(self, name) is not None)
        ]
        if self.white is not None and not LEAST_WIDTH <= self.white < math.inf:
            problems.append(f"white must be above 0, got {self.white}")
        if self.window is not None and not (
            math.isfinite(self.window[0]) and LEAST_WIDTH <= self.window[1] < math.inf
        ):
            problems.append(f"window must be a centre and a width above 0, got {self.window}")
        if not 0 <= self.percents[0] < self.percents[1] <= 100:
            problems.append(f"percents must be two rising numbers in 0 … 100, got {self.percents}")
        if not 0 < self.deviations < math.inf:
            problems.append(f"deviations must be above 0, got {self.deviations}")
        if self.clip and kind in {RangeKind.moments, RangeKind.histogram, RangeKind.custom}:
            problems.append(f"clip: the range {kind.value!r} has no black and white to cut at; leave it out")
        if self.file_clip is not None and (kind.fitted or kind is RangeKind.custom):
            problems.append(f"file_clip belongs to fixed ranges, got {self.file_clip} with {kind.value!r}")
        problems += [*self._reference_problems(), *self._fit_problems()]
        if problems:
            raise ConfigError(problems)

    def _reference_problems(self) -> list[str]:
        kind, reference = RangeKind(self.kind), self.reference
        if reference is None:
            return ["moments needs a reference: [[mean, deviation]]"] if kind is RangeKind.moments else []
        if kind is RangeKind.moments:
            fits = reference and all(len(r) == 2 and LEAST_WIDTH <= r[1] < math.inf for r in reference)
            return (
                [] if fits else [f"reference must be [mean, deviation above 0] for moments, got {reference}"]
            )
        if kind is RangeKind.histogram:
            fits = reference and all(
                len(r) >= 2 and list(r) == sorted(r) and r[0] < r[-1] and math.isfinite(r[0] + r[-1])
                for r in reference
            )
            return [] if fits else ["reference must be rising values, two or more per channel, for histogram"]
        return [f"reference belongs to moments and histogram, got it with {kind.value!r}"]

    def _fit_problems(self) -> list[str]:
        problems, kind = [], RangeKind(self.kind)
        if self.fit is not FitOn.scene and not kind.fitted:
            problems.append(f"fit: the range {kind.value!r} is not fitted; leave it out")
        if (self.statistics is not None) != (self.fit is FitOn.file and self.saved is None):
            problems.append(
                f"statistics belongs to fit: file, got {self.statistics} with fit: {self.fit.value}"
            )
        if self.saved is not None and self.fit is FitOn.scene:
            problems.append("saved numbers belong to fit: dataset or fit: file")
        return problems

    @property
    def needs_scene(self) -> bool:
        """Whether the picture that is restored decides the numbers."""
        return self.kind.fitted and self.fit is FitOn.scene

    @property
    def fixed(self) -> AnyRange:
        """The range of a kind that needs no picture, or whose numbers are saved.

        Raises:
            ConfigError: it has to be fitted, or is made of code that is not there.
            UnknownNameError: a custom range that is not registered.
        """
        if self.saved is not None:
            return self.saved
        if self.kind.fitted:
            what = {
                FitOn.scene: "a picture",
                FitOn.dataset: "its data set",
                FitOn.file: "its file of statistics",
            }
            raise ConfigError(f"the range {self.kind.value!r} must be fitted on {what[self.fit]}")
        if self.custom is not None:
            return custom_range(self.custom)
        if self.white is not None:
            return self.between((0.0,), (self.white,))
        if self.window is not None:
            centre, width = self.window
            return self.between((centre - width / 2,), (centre + width / 2,))
        base = PM1 if self.kind is RangeKind.pm1 else UNIT
        return Range(
            kind=self.kind,
            middle=base.middle,
            width=base.width,
            clip=base.black_white if self.clip else None,
            file_clip=self.file_clip,
        )

    def between(
        self, black: tuple[float, ...], white: tuple[float, ...], notes: tuple[str, ...] = ()
    ) -> Range:
        """Return the range that makes `black` 0 (or -1) and `white` 1, channel by channel."""
        pairs = list(zip(black, white, strict=True))
        if self.symmetric:
            middle, width = [(b + w) / 2 for b, w in pairs], [(w - b) / 2 for b, w in pairs]
        else:
            middle, width = [b for b, _ in pairs], [w - b for b, w in pairs]
        return self.line(tuple(middle), tuple(width), (-1.0 if self.symmetric else 0.0, 1.0), notes)

    def line(
        self,
        middle: tuple[float, ...],
        width: tuple[float, ...],
        ends: tuple[float, float],
        notes: tuple[str, ...] = (),
    ) -> Range:
        """Return the range of this line; `ends` are what black and white become."""
        return Range(
            kind=self.kind,
            middle=middle,
            width=width,
            clip=ends if self.clip else None,
            file_clip=self.file_clip,
            ends=None if ends == (0.0, 1.0) else ends,
            notes=notes,
        )

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> RangeConfig:
        """Read plain data.

        Raises:
            ConfigError: it is something else.
        """
        return configs.build(cls, data, where="range")
