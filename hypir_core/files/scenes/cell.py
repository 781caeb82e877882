"""The side of a raster's cell on the ground, and which cells count as of one resolution."""

from __future__ import annotations

from dataclasses import dataclass

ALIKE = 1.25
"""Cells whose lengths differ by a smaller factor count as of one resolution: degrees of neighbours are never equal."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The side of a raster's cell on the ground."""

    length: float
    unit: str
    """``m``, ``°`` or another word; empty where the file does not say."""

    def told(self) -> str:
        """Return it as a person reads it."""
        return f"{self.length:g} {self.unit}".rstrip()

    def is_like(self, other: Cell) -> bool:
        """Say whether both count as of one resolution; of two units nothing is known, so they do."""
        short, long = sorted((self.length, other.length))
        return self.unit != other.unit or long <= ALIKE * short
