"""What a node is to ComfyUI."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import ComfyExtension, io, ui

from ...hypir_core.errors import ConfigError

__all__ = ["ComfyExtension", "advanced", "io", "register_replacements", "require", "schema", "ui"]


def schema(**fields: Any) -> io.Schema:
    """Make a schema of the fields that the running ComfyUI knows."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(**{name: value for name, value in fields.items() if name in known})


def advanced(given: Any) -> Any:
    """Mark an input as one that newer frontends fold away."""
    given.extra_dict["advanced"] = True
    return given


async def register_replacements(replacements: list[dict[str, Any]]) -> None:
    """Offer to replace nodes of other plugins, where the running ComfyUI can do that."""
    from comfy_api import latest

    replace = getattr(io, "NodeReplace", None)
    registry = getattr(latest.ComfyAPI(), "node_replacement", None) if replace else None
    if replace is None or registry is None:
        return
    for fields in replacements:
        await registry.register(replace(**fields))


def require(connected: bool, message: str) -> None:
    """Raise ConfigError unless the sockets go together."""
    if not connected:
        raise ConfigError(message)
