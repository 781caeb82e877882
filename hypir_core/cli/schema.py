"""``hypir schema``."""

from __future__ import annotations

from typing import Annotated

import typer

from . import console

REQUEST = "request"


def schema_command(
    name: Annotated[str, typer.Argument(help="An engine; or request, for sizes, tiles and strengths.")],
) -> None:
    """Print the JSON schema of an engine's settings, or of a request.

    That of a training's settings: python -m train schema.
    """
    from ..engines.catalog import ENGINES
    from ..errors import UnknownNameError
    from ..request import Request
    from ..schema import json_schema

    if name == REQUEST:
        console.tell_json(json_schema(Request))
        return
    if name not in ENGINES:
        raise UnknownNameError("engine", name, (*ENGINES.names(), REQUEST))
    console.tell_json(json_schema(ENGINES.get(name).options))
