"""``restore --then``: an engine and its settings in one text."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace

from ..batch.work import Then
from ..engines.catalog import ENGINES
from ..errors import ConfigError
from ..image.size import TargetSize
from ..profile import Profile, ProfilePart
from ..request import Request
from .engine_options import options_for


def then_of(text: str, profile: Profile | None, wished: Callable[[ProfilePart], Request]) -> Then:
    """Return the engine that a text such as ``built-in`` or ``upscaler weights=x2.safetensors`` asks for.

    Args:
        text: of ``--then``.
        profile: what it says of this engine lies below the text.
        wished: returns a request from a profile's part and what else was said.

    Raises:
        UnknownNameError: no such engine.
        ConfigError: the text is no engine and settings; the profile's part asks for a size of its own.
    """
    try:
        words = shlex.split(text)
    except ValueError as err:
        raise ConfigError(f"--then {text!r}: expected an engine and KEY=VALUE, got text with {err}") from err
    if not words:
        raise ConfigError("--then: expected an engine and its settings, such as 'built-in', got nothing")
    name, *assignments = words
    ENGINES.entry(name)
    part = ProfilePart() if profile is None else profile.engines.get(name, ProfilePart())
    if part.wish().target != TargetSize():
        raise ConfigError(
            f"--then {name}: the profile asks for a size of its own; leave target out of it, and say --scale"
        )
    request = replace(wished(part), target=TargetSize()) if part.request else None
    return Then(engine=name, options=dict(part.options) | options_for(name, {}, assignments), request=request)
