"""Factors and sides along every axis, where the settings say one number for all of them."""

from __future__ import annotations

from typing import TypeAlias

Scale: TypeAlias = "int | tuple[int, ...]"
"""High-quality cells per low-quality cell: one number for every axis, or one for each."""


def scales_of(scale: Scale, axes: int) -> tuple[int, ...]:
    """Return one factor, or one side, for each of so many axes."""
    return (scale,) * axes if isinstance(scale, int) else tuple(scale)
