"""How large the result is."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ..config import strict
from ..errors import ConfigError

MAX_SIDE_PX = 16384
MAX_SCALE = 8.0


@dataclass(frozen=True, kw_only=True)
class TargetSize:
    """At most one of the four; none of them means the engine's own scale."""

    __pydantic_config__ = strict

    scale: float | None = None
    """Factor on both sides, 1 to 8; the result is exactly round(h·scale) × round(w·scale)."""
    longest_side_px: int | None = None
    """The longer side becomes this many pixels."""
    shortest_side_px: int | None = None
    """The shorter side becomes this many pixels."""
    megapixels: float | None = None
    """The area becomes this many million pixels."""

    def __post_init__(self) -> None:
        problems = []
        given = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        if len(given) > 1:
            problems.append(
                f"give one of scale, longest side, shortest side and megapixels, got {' and '.join(given)}"
            )
        if self.scale is not None and not 1 <= self.scale <= MAX_SCALE:
            problems.append(f"scale must be from 1 to {MAX_SCALE:g}, got {self.scale:g}")
        sides = {"longest": self.longest_side_px, "shortest": self.shortest_side_px}
        problems += [
            f"{name} side must be from 1 to {MAX_SIDE_PX} px, got {side_px}"
            for name, side_px in sides.items()
            if side_px is not None and not 1 <= side_px <= MAX_SIDE_PX
        ]
        if self.megapixels is not None and not (math.isfinite(self.megapixels) and self.megapixels > 0):
            problems.append(f"megapixels must be a positive number, got {self.megapixels:g}")
        if problems:
            raise ConfigError(problems)

    def size_for(
        self, height_px: int, width_px: int, *, default_scale: float, max_side_px: int = MAX_SIDE_PX
    ) -> tuple[int, int]:
        """Return the (height, width) in pixels that a picture of this size gets.

        Raises:
            ConfigError: a side would be longer than `max_side_px`, 16384 for a result that is whole in memory.
        """
        factor = default_scale if self.scale is None else self.scale
        if self.longest_side_px is not None:
            factor = self.longest_side_px / max(height_px, width_px)
        elif self.shortest_side_px is not None:
            factor = self.shortest_side_px / min(height_px, width_px)
        elif self.megapixels is not None:
            factor = math.sqrt(self.megapixels * 1e6 / (height_px * width_px))
        size = (max(1, round(height_px * factor)), max(1, round(width_px * factor)))
        if max(size) > max_side_px:
            raise ConfigError(
                f"the result would be {size[1]}×{size[0]} px; the longest side allowed is {max_side_px} px: "
                f"choose a scale of at most {_floored(max_side_px / max(height_px, width_px))}, or a longest side"
            )
        return size


def _floored(scale: float) -> str:
    """Return a factor with two digits that is not larger."""
    return f"{math.floor(scale * 100) / 100:.2f}"


def parse_size(text: str) -> tuple[int, int]:
    """Read ``1024`` (a square) or ``4096x2048`` (width × height); return (height, width) in pixels.

    Raises:
        ConfigError: it is neither, or a side is not from 1 to 16384.
    """
    width, cross, height = text.lower().replace("×", "x").partition("x")
    sides = (height, width) if cross else (width, width)
    if not all(side.isdecimal() and 1 <= int(side) <= MAX_SIDE_PX for side in sides):
        raise ConfigError(
            f"a size is a side or WIDTHxHEIGHT, each from 1 to {MAX_SIDE_PX} px, for instance 1024 or "
            f"4096x2048; got {text!r}"
        )
    return int(sides[0]), int(sides[1])
