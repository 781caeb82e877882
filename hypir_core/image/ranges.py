"""Ranges."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Range:
    """x·scale + offset."""

    scale: float = 1.0
    offset: float = 0.0

    def apply(self, x: Tensor) -> Tensor:
        """To the network."""
        return x if self == UNIT else x * self.scale + self.offset

    def undo(self, y: Tensor) -> Tensor:
        """Back."""
        return y if self == UNIT else (y - self.offset) / self.scale


UNIT = Range()
PM1 = Range(scale=2.0, offset=-1.0)
