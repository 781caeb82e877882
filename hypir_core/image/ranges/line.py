"""The usual range is one line, ``network = (file - middle) / width``, for all channels or for each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ... import config as configs
from ...errors import ConfigError, ShapeError
from .kinds import RangeKind

LEAST_WIDTH = 1e-30
"""Narrower ranges than this would leave float32 when they are applied."""


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
    file_clip: tuple[float, float] | None = None
    """File values that `undo` gives are cut to these limits; None keeps all."""
    ends: tuple[float, float] | None = None
    """Network values of black and white, for what wants [0,1] or [-1,1]; None: those of the kind."""
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
        problems += [
            f"{name} must be a lower and a higher number, got {pair}"
            for name in ("clip", "file_clip", "ends")
            if (pair := getattr(self, name)) is not None and not pair[0] < pair[1]
        ]
        if problems:
            raise ConfigError(problems)

    @property
    def lossless(self) -> bool:
        """Whether `undo` gives back what `apply` was given.

        It does so within 1 ulp of float32 at the largest number on the way, ``max(|x|, |middle|, |x - middle|)``.
        """
        return self.clip is None and self.file_clip is None

    @property
    def black_white(self) -> tuple[float, float]:
        """The network values of black and white."""
        return self.ends or ((-1.0, 1.0) if self.kind is RangeKind.pm1 else (0.0, 1.0))

    @property
    def identity(self) -> bool:
        """Whether nothing is done."""
        return self.lossless and set(self.middle) == {0.0} and set(self.width) == {1.0}

    def apply(self, x: Tensor) -> Tensor:
        """Return network values of file values [b c *spatial], float32 or wider; `x` itself if nothing is done.

        Raises:
            ShapeError: the range is for another number of channels.
        """
        if self.identity:
            return x
        x = floating(x)
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
        y = floating(y)
        middle, width = self._numbers(y)
        out = (y.to(middle.dtype) * width + middle).to(y.dtype)
        return out if self.file_clip is None else out.clamp(*self.file_clip)

    def _numbers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return middle and width, [1|c, 1 …], in the format to compute in."""
        channels = int(x.shape[1]) if x.ndim > 1 else 0  # a number also where a graph is traced
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


def floating(x: Tensor) -> Tensor:
    """Return real values as float32, or float64 where the values need it."""
    if x.dtype == torch.float64:
        return x
    return x.double() if x.dtype in {torch.int32, torch.int64} else x.float()
