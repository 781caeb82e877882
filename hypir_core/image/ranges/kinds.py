"""The kinds of ranges, and what all of them can do."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol

from torch import Tensor


class RangeKind(str, Enum):
    """How file values become network values."""

    unit = "unit"
    """As they are: [0,1] for pictures."""
    pm1 = "pm1"
    """[0,1] becomes [-1,1]."""
    white = "white"
    """Divided by the value that means white: 255, 65535, 1.0, 10000."""
    window = "window"
    """A window around a centre: its lower end becomes 0, its upper end 1 (Hounsfield units)."""
    minmax = "minmax"
    """The least value becomes 0, the greatest 1."""
    percentile = "percentile"
    """One percentile becomes 0, another 1; a few values lie outside."""
    zscore = "zscore"
    """Less the mean, divided by the standard deviation."""
    moments = "moments"
    """Mean and standard deviation become those of a reference."""
    histogram = "histogram"
    """The whole distribution becomes that of a reference, or an even one."""
    custom = "custom"
    """Functions of one's own, by name."""

    @property
    def fitted(self) -> bool:
        """Whether the picture, or a data set, decides the numbers."""
        return self in {
            RangeKind.minmax,
            RangeKind.percentile,
            RangeKind.zscore,
            RangeKind.moments,
            RangeKind.histogram,
        }


class AnyRange(Protocol):
    """A map from file values to network values and back; channels are the second axis, others are free."""

    @property
    def notes(self) -> Sequence[str]:
        """What a report must say about it."""
        ...

    @property
    def lossless(self) -> bool:
        """Whether `undo` gives back what `apply` was given, up to rounding."""
        ...

    @property
    def black_white(self) -> tuple[float, float]:
        """The network values of black and white."""
        ...

    def apply(self, x: Tensor) -> Tensor:
        """Return network values of file values [b c *spatial]."""
        ...

    def undo(self, y: Tensor) -> Tensor:
        """Return file values of network values [b c *spatial]."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        ...
