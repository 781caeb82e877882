"""Trying a whole run without weights: tiny random networks instead of real ones."""

from __future__ import annotations

import logging
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any

from ..errors import ConfigError

log = logging.getLogger(__name__)

OPTION, TINY = "random_weights", "tiny"


def with_tiny_networks(name: str, options_class: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return an engine's options with tiny random networks, where it has a choice of networks at all.

    An engine without the option `random_weights` is as small as it can be; random weights that are asked for stay.

    Raises:
        ConfigError: the engine has random networks, but no tiny ones.
    """
    if OPTION not in typing.get_type_hints(options_class) or options.get(OPTION):
        return dict(options)
    hint = typing.get_type_hints(options_class)[OPTION]
    known = [kind for kind in typing.get_args(hint) if isinstance(kind, type) and issubclass(kind, Enum)]
    values = [member.value for kind in known for member in kind]
    if TINY not in values:
        raise ConfigError(
            f"engine {name!r} has no tiny random networks; unset HYPIR_LITE, or choose another engine"
        )
    log.warning("HYPIR_LITE is set: %s runs on tiny random networks, its pictures mean nothing", name)
    return dict(options) | {OPTION: TINY}
