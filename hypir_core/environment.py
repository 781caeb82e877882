"""What environment variables say to this program: debugging, trying without weights, where weights lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ConfigError

DEBUG = ("HYPIR_DEBUG", "SEESR_DEBUG")
LITE = ("HYPIR_LITE", "SEESR_LITE", "SEESR_TEST_MODE")
LOG_LEVEL = ("HYPIR_LOG_LEVEL", "SEESR_LOG_LEVEL")
PLACES = {
    "base_model": ("SD_TURBO_PATH",),
    "seesr": ("SEESR_MODEL_PATH",),
    "tagger": ("RAM_MODEL_PATH",),
}
"""What is looked for → the variables that name its place. All names: the first that is set counts."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

YES, NO = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What the environment says."""

    debug: bool = False
    """Log everything, and look at what every stage made (`debug`)."""
    log_level: str | None = None
    """One of `LEVELS`; None leaves it to whoever runs the program, or to `debug`."""
    lite: bool = False
    """Run on tiny random networks."""
    places: Mapping[str, Path] = field(default_factory=dict)
    """Where a file or folder lies that nothing else names, by the keys of `PLACES`."""


def variables() -> Mapping[str, str]:
    """Return this process's environment variables; none where the package comes without their reader.

    The archive for ComfyUI's registry leaves `process_environment` out: there ComfyUI says where models lie.
    """
    try:
        from .process_environment import process_variables
    except ModuleNotFoundError:
        return {}
    return process_variables()


def read_environment(given: Mapping[str, str] | None = None) -> Environment:
    """Read the variables of this process, or those that are given.

    Raises:
        ConfigError: a value is not what its variable takes; names every such variable.
    """
    stated_variables = variables() if given is None else given
    problems: list[str] = []

    def stated(names: tuple[str, ...]) -> tuple[str, str]:
        return next(
            ((name, text) for name in names if (text := stated_variables.get(name, "").strip())), ("", "")
        )

    def switch(names: tuple[str, ...]) -> bool:
        name, text = stated(names)
        if text.lower() not in YES | NO:
            problems.append(f"the environment variable {name} must be 1 or 0, got {text!r}")
        return text.lower() in YES

    name, level = stated(LOG_LEVEL)
    if level and level.upper() not in LEVELS:
        problems.append(f"the environment variable {name} must be {', '.join(LEVELS)}, got {level!r}")
    found = Environment(
        debug=switch(DEBUG),
        log_level=level.upper() or None,
        lite=switch(LITE),
        places={
            what: Path(text).expanduser() for what, names in PLACES.items() if (text := stated(names)[1])
        },
    )
    if problems:
        raise ConfigError(problems)
    return found
