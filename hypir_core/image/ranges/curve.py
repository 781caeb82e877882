"""A range that is no line: values are looked up between knots, so that a whole distribution can become another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ... import config as configs
from ...errors import ConfigError, ShapeError
from .kinds import RangeKind
from .line import floating

LEAST_RISE = (1e-6, 1e-3)
"""Knots closer than this part of the whole width, of file or network values, are one: what is nearly flat could not be
undone, and what is nearly upright would blow up noise."""

LOSSLESS = 5e-6
"""Half a step of 16 bit is 7.6e-6."""

FLOAT32 = 2.0**-24
"""What rounding to float32 does to 1."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Straight between knots, and beyond them as steep as the whole curve; rising everywhere, so it can be undone."""

    __pydantic_config__ = configs.strict

    kind: RangeKind = RangeKind.histogram
    file: tuple[tuple[float, ...], ...]
    """File values of the knots, rising: one list for all channels, or one for each."""
    network: tuple[tuple[float, ...], ...]
    """Their network values, rising."""
    ends: tuple[float, float] = (0.0, 1.0)
    """The network values of black and white."""
    notes: tuple[str, ...] = ()
    """What a report must say about it."""

    def __post_init__(self) -> None:
        fits = len(self.file) == len(self.network) > 0 and all(
            len(xs) == len(ys) >= 2 for xs, ys in zip(self.file, self.network, strict=True)
        )
        if not fits:
            raise ConfigError("a curve needs as many file values as network values, two or more per channel")
        for numbers in (*self.file, *self.network):
            finite = all(math.isfinite(number) for number in numbers)
            if not finite or any(b <= a for a, b in pairwise(numbers)):
                raise ConfigError("the knots of a curve must be finite and rise")

    @property
    def lossless(self) -> bool:
        """Whether `undo` gives back what `apply` was given, within `LOSSLESS` of the width, through float32."""
        return all(
            (x1 - x0) * max(abs(ys[0]), abs(ys[-1])) * FLOAT32 <= LOSSLESS * (xs[-1] - xs[0]) * (y1 - y0)
            for xs, ys in zip(self.file, self.network, strict=True)
            for x0, x1, y0, y1 in zip(xs, xs[1:], ys, ys[1:], strict=False)
        )

    @property
    def black_white(self) -> tuple[float, float]:
        """The network values of black and white."""
        return self.ends

    def apply(self, x: Tensor) -> Tensor:
        """Return network values of file values [b c *spatial], float32 or wider.

        Raises:
            ShapeError: the curve is for another number of channels.
        """
        return self._looked_up(x, self.file, self.network)

    def undo(self, y: Tensor) -> Tensor:
        """Return file values of network values [b c *spatial], float32 or wider; raises as `apply`."""
        return self._looked_up(y, self.network, self.file)

    def _looked_up(
        self, x: Tensor, given: Sequence[Sequence[float]], wanted: Sequence[Sequence[float]]
    ) -> Tensor:
        x = floating(x)
        channels = int(x.shape[1]) if x.ndim > 1 else 0  # a number also where a graph is traced
        if len(given) not in {1, channels}:
            raise ShapeError(
                f"this {self.kind.value} range is for {len(given)} channels, the picture has {channels}; "
                "fit one for all channels"
            )
        parts = x.split(1 if len(given) > 1 else max(channels, 1), dim=1)
        return torch.cat(
            [_between(part, xs, ys) for part, xs, ys in zip(parts, given, wanted, strict=True)], 1
        )

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; equal curves give equal texts."""
        return configs.to_plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Curve:
        """Read what `to_json` gave.

        Raises:
            ConfigError: it is something else.
        """
        return configs.build(cls, data, where="range")


def rising(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return knots (file, network) that rise on both sides, from pairs that do not fall.

    Pairs of one file value become one knot in the middle of their network values; knots of one network value become one.
    """
    least = [LEAST_RISE[side] * (pairs[-1][side] - pairs[0][side]) for side in (0, 1)]
    groups: list[list[tuple[float, float]]] = []
    for x, y in pairs:
        if groups and x - groups[-1][0][0] <= least[0]:
            groups[-1].append((x, y))
        else:
            groups.append([(x, y)])
    knots: list[tuple[float, float]] = []
    for group in groups:
        x, y = group[0][0], (group[0][1] + group[-1][1]) / 2
        if not knots or y - knots[-1][1] > least[1]:
            knots.append((x, y))
    return knots


def _between(x: Tensor, xs: Sequence[float], ys: Sequence[float]) -> Tensor:
    wide = torch.float64 if x.device.type != "mps" else x.dtype
    given, wanted = (torch.tensor(list(numbers), dtype=wide, device=x.device) for numbers in (xs, ys))
    values = x.detach().to(wide).contiguous()
    right = torch.searchsorted(given, values).clamp(1, len(xs) - 1)
    slopes = (wanted[1:] - wanted[:-1]) / (given[1:] - given[:-1])
    whole = (ys[-1] - ys[0]) / (xs[-1] - xs[0])
    below, above = values < given[0], values > given[-1]
    slope = slopes[right - 1].masked_fill(below | above, whole)
    start = torch.where(above, len(xs) - 1, right - 1)
    return (wanted[start] + (x.to(wide) - given[start]) * slope).to(x.dtype)
