"""What an engine is better with, beside what it cannot be used without."""

from __future__ import annotations

from collections.abc import Iterable

OPTIONAL = "optional: "
"""How a line of `EngineEntry.missing` begins whose thing the engine can do without."""


def is_usable(missing: Iterable[str]) -> bool:
    """Say whether an engine can be used although these things are missing."""
    return all(line.startswith(OPTIONAL) for line in missing)
