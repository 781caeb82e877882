"""Checks of recipe values; each returns its problems as lines, so that all of them are told at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..errors import ConfigError

Range = tuple[float, float]
"""Lowest and highest value; drawn uniformly in between."""


def raise_problems(*groups: Sequence[str]) -> None:
    """Raise one ConfigError with every problem, if there is any."""
    if problems := [problem for group in groups for problem in group]:
        raise ConfigError(problems)


def check_number(name: str, value: float, low: float, high: float) -> list[str]:
    """A number must lie within low and high."""
    return [] if low <= value <= high else [f"{name}: expected a number from {low} to {high}, got {value}"]


def check_probability(name: str, value: float) -> list[str]:
    """A probability lies within 0 and 1."""
    return [] if 0 <= value <= 1 else [f"{name}: expected a probability from 0 to 1, got {value}"]


def check_range(name: str, pair: Range, low: float, high: float) -> list[str]:
    """A range must be in order and within low and high."""
    if low <= pair[0] <= pair[1] <= high:
        return []
    return [f"{name}: expected [low, high] with {low} <= low <= high <= {high}, got {list(pair)}"]


def check_weights(weights: Mapping[str, float]) -> list[str]:
    """Weights are finite, not negative, and not all 0."""
    wrong = [
        f"{name}: expected a weight of 0 or more, got {weight}"
        for name, weight in weights.items()
        if not 0 <= weight < math.inf
    ]
    if not wrong and not any(weights.values()):
        wrong = [f"{', '.join(weights)}: at least one weight must be above 0"]
    return wrong


def check_sizes(name: str, sizes: Sequence[int]) -> list[str]:
    """Kernel widths are odd, 1 to 255, and there is at least one."""
    if wrong := [size for size in sizes if size % 2 == 0 or not 1 <= size <= 255]:
        return [f"{name}: expected odd widths from 1 to 255, got {wrong}"]
    return check_some(name, sizes)


def check_some(name: str, options: Sequence[object]) -> list[str]:
    """There must be something to choose from."""
    return [] if options else [f"{name}: expected at least one entry, got an empty list"]
