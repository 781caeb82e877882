"""What every architecture has to be told: channels, factor, axes. Each adds its own to them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from ...config import strict, to_plain
from ...errors import ConfigError
from .nd import AXES


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What every generator of ours has; the base of its `Options`."""

    __pydantic_config__ = strict

    in_channels: int = 3
    """Channels (bands) that it takes."""
    out_channels: int | None = None
    """Channels that it makes; None: as many as it takes."""
    scale: int | tuple[int, ...] = 4
    """Factor along every axis, or one for each: [1, 4, 4] enlarges the slices of a volume, and keeps their number."""
    dims: int = 2
    """Spatial axes: 2 for pictures, 3 for volumes."""

    def __post_init__(self) -> None:
        problems = at_least_one(self, "in_channels")
        if self.out_channels is not None:
            problems += at_least_one(self, "out_channels")
        if self.dims not in AXES:
            problems.append(f"dims must be {' or '.join(map(str, AXES))}, got {self.dims}")
        scales = (self.scale,) if isinstance(self.scale, int) else self.scale
        if not scales or min(scales) < 1:
            problems.append(f"scale must be 1 or more, got {self.scale}")
        elif not isinstance(self.scale, int) and len(scales) != self.dims:
            problems.append(
                f"scale must be one number or {self.dims}, one for each axis, got {len(scales)} numbers"
            )
        if problems:
            raise ConfigError(problems)

    @property
    def scales(self) -> tuple[int, ...]:
        """Factor along every axis."""
        return (self.scale,) * self.dims if isinstance(self.scale, int) else self.scale

    @property
    def makes(self) -> int:
        """Channels that it makes."""
        return self.in_channels if self.out_channels is None else self.out_channels

    @property
    def own(self) -> dict[str, Any]:
        """What only this architecture has, as plain data: ``GeneratorSpec.options``."""
        shared = {field.name for field in fields(Sizes)}
        return {name: value for name, value in to_plain(self).items() if name not in shared}


class Output(str, Enum):
    """What the last convolution's numbers go through."""

    linear = "linear"
    """Nothing."""
    tanh = "tanh"
    """Between -1 and 1: for weights whose range is ``pm1`` or symmetric; with [0,1] it cannot be undone."""
    sigmoid = "sigmoid"
    """Between 0 and 1."""

    def of(self, x: Tensor) -> Tensor:
        """Return the output."""
        if self is Output.linear:
            return x
        return torch.tanh(x) if self is Output.tanh else torch.sigmoid(x)


def at_least_one(options: object, *names: str) -> list[str]:
    """Return a problem for every named field below 1."""
    return [
        f"{name} must be 1 or more, got {value}" for name in names if (value := getattr(options, name)) < 1
    ]


def odd(options: object, *names: str) -> list[str]:
    """Return a problem for every named field that is no odd number of 1 or more."""
    return [
        f"{name} must be odd, 1 or more, got {value}"
        for name in names
        if (value := getattr(options, name)) < 1 or value % 2 == 0
    ]
