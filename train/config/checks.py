"""Checks that several settings share; all findings are listed at once."""

from __future__ import annotations

from typing import Any

from hypir_core.errors import ConfigError


def at_least(config: Any, least: int, *names: str, prefix: str = "") -> list[str]:
    """Return one complaint for each named setting that is below `least`."""
    return [
        f"{prefix}{name} must be {least} or more, got {getattr(config, name)}"
        for name in names
        if not getattr(config, name) >= least
    ]


def raise_all(problems: list[str]) -> None:
    """Raise one ConfigError that lists `problems`, if there are any."""
    if problems:
        raise ConfigError(problems)
