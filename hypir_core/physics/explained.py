"""Does a result explain what was measured: χ², and pixels that say nothing, counted over any number of parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .data_terms import Measurement, chi_squared

MUCH = 0.001
"""A larger share of saturated pixels deserves a note."""

MOST_DARK = 0.5
"""Reading noise alone brings half of the dark pixels below the offset at most."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """How well a result explains what was measured; parts can be joined."""

    chi_squared_sum: float = 0.0
    """Sum of (y − μ)²/(μ + σ²) over the pixels that say something."""
    pixels: int = 0
    """How many those are."""
    seen: int = 0
    """All pixels that hold a number."""
    saturated: int = 0
    dark: int = 0
    """Pixels below the camera's offset."""

    def figures(self) -> dict[str, float]:
        """Return what a report lists."""
        seen = max(1, self.seen)
        chi = {"chi_squared": self.chi_squared_sum / self.pixels} if self.pixels else {}
        return chi | {"saturated_share": self.saturated / seen, "below_offset_share": self.dark / seen}

    def notes(self) -> Iterator[str]:
        """Yield what a report must say."""
        found = self.figures()
        if "chi_squared" in found:
            yield (
                f"χ² {found['chi_squared']:.2f}: 1 where the noise explains what the result leaves of the measurement, "
                "more where something is missed, less where noise is repeated"
            )
        if found["saturated_share"] > MUCH:
            yield (
                f"{found['saturated_share']:.2%} of the pixels are saturated: how bright they were is unknown; expose "
                "for less time, or state the camera's bits"
            )
        dark = found["below_offset_share"]
        if dark > MOST_DARK:
            yield f"{dark:.2%} of the pixels are darker than the camera's offset: check offset_adu"
        elif dark > 0:
            yield f"{dark:.2%} of the pixels are darker than the camera's offset, by reading noise or a wrong offset_adu"


def explained(
    light_e: Tensor, measured: Measurement, rows: slice, *, saturated: Tensor, dark: Tensor, seen: Tensor
) -> Explained:
    """Count how well light explains a measurement.

    Args:
        light_e: [1 c rows columns] electrons above the background, 0 or more.
        measured: the same cells; NaN where they say nothing.
        rows: those that count; the others are surroundings.
        saturated: a mask: pixels at the camera's brightest number.
        dark: a mask: pixels below the camera's offset.
        seen: a mask: pixels that hold a number.
    """
    inside = torch.zeros(light_e.shape[-2:], dtype=torch.bool)
    inside[rows] = True
    counted = Measurement(
        y=measured.y.masked_fill(~inside, float("nan")),
        operator=measured.operator,
        background_e=measured.background_e,
        read_variance=measured.read_variance,
    )
    pixels = int(counted.valid.sum())
    return Explained(
        chi_squared_sum=float(chi_squared(light_e, counted).sum()) * pixels if pixels else 0.0,
        pixels=pixels,
        seen=int((seen & inside).sum()),
        saturated=int((saturated & inside).sum()),
        dark=int((dark & inside).sum()),
    )


def joined(parts: Sequence[Explained]) -> Explained:
    """Return what several parts say together."""
    return Explained(
        chi_squared_sum=sum(part.chi_squared_sum for part in parts),
        pixels=sum(part.pixels for part in parts),
        seen=sum(part.seen for part in parts),
        saturated=sum(part.saturated for part in parts),
        dark=sum(part.dark for part in parts),
    )
