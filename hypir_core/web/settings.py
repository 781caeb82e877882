"""What whoever starts the page decides; nobody at the page can change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engines.catalog import ENGINES, engine_options
from ..engines.settings import options_of
from ..errors import ConfigError

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """Where the page is, what it may take, and what its engines were given."""

    engine: str = "built-in"
    """The engine that is chosen at first."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Option → value, for every engine that has it: weights, folders, `download`."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    dtype: str = "auto"
    """``auto``, ``float32``, ``bfloat16`` or ``float16``."""
    captioner: str = "vlm"
    """What the button beside the prompt asks."""
    captioner_options: Mapping[str, Any] = field(default_factory=dict)
    """Its settings."""
    host: str = "127.0.0.1"
    """Address to listen on; the default is this machine alone."""
    port: int | None = None
    """None takes the first free one from 7860 on."""
    max_upload_bytes: int = 256 * MIB
    """Largest file that may be uploaded."""
    max_pictures: int = 200
    """Most pictures of one run."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be from {low} to {high}, got {value}"
            for name, value, low, high in (
                ("port", self.port, 1, 65535),
                ("the largest upload", self.max_upload_bytes, 1, 2**40),
                ("the most pictures", self.max_pictures, 1, 10_000),
            )
            if value is not None and not low <= value <= high
        ]
        if problems:
            raise ConfigError(problems)

    def options_for(self, engine: str) -> dict[str, Any]:
        """Return what an engine was given."""
        own = {option.name for option in options_of(engine, ENGINES.get(engine).options)}
        return {name: value for name, value in self.given.items() if name in own}

    def still_needed(self, engine: str) -> list[str]:
        """Return the flags without which an engine cannot be used, and that were not given."""
        return [
            option.flag
            for option in options_of(engine, ENGINES.get(engine).options)
            if option.must_be_given and option.name not in self.given
        ]

    def check(self) -> None:
        """Refuse before the start what was given wrong.

        Raises:
            UnknownNameError: no such engine.
            ConfigError: a value that an engine does not take: all problems at once.
        """
        ENGINES.entry(self.engine)
        problems: list[str] = []
        for name in ENGINES.names():
            if given := self.options_for(name):
                # What an engine lacks may still be set at the page.
                lacking = _problems(name, {})
                problems += [problem for problem in _problems(name, given) if problem not in lacking]
        if problems:
            raise ConfigError(dict.fromkeys(problems))


def _problems(engine: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        engine_options(engine, options)
    except ConfigError as err:
        return err.problems
    return ()
