"""What a node is to ComfyUI."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import ComfyExtension, io, ui
from comfy_execution.validation import validate_node_input

from ...hypir_core.errors import ConfigError

__all__ = [
    "ComfyExtension",
    "advanced",
    "beside",
    "io",
    "mismatch",
    "register_replacements",
    "require",
    "schema",
    "ui",
]


def schema(**fields: Any) -> io.Schema:
    """Make a schema of the fields that the running ComfyUI knows."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(**{name: value for name, value in fields.items() if name in known})


def beside(core_node: str, *, otherwise: str) -> str:
    """Return the category of one of ComfyUI's own nodes, so that ours stands beside it in every version.

    Args:
        core_node: id of the node.
        otherwise: the category where the running ComfyUI does not have it.
    """
    import nodes  # ComfyUI's

    found = nodes.NODE_CLASS_MAPPINGS.get(core_node)
    return otherwise if found is None else found.CATEGORY


def mismatch(node: type[io.ComfyNode], linked: Mapping[str, str]) -> str | None:
    """Say which link brings another type than its input takes; None if none does.

    ComfyUI leaves this to a node whose `validate_inputs` asks for `input_types`.

    Args:
        node: the node.
        linked: input → type of the output that is connected to it.
    """
    for given in node.define_schema().inputs:
        wanted = given.get_io_type()
        if given.id in linked and not validate_node_input(linked[given.id], wanted):
            return f"{given.id}: expected {wanted}, got {linked[given.id]}"
    return None


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
