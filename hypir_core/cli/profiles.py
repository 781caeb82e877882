"""``hypir profiles``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from . import console


def profiles_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME|FILE]...", help="Which; default: all that come along."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: what each says, and all that it comes to.")
    ] = False,
) -> None:
    """List the profiles of `restore --profile`, and what they say to which engine."""
    from ..config import to_plain
    from ..profile import load_profile, profile_names, resolved, stated

    profiles = {name: load_profile(name) for name in names or profile_names()}
    if as_json:
        console.tell_json(
            {
                "profiles": {
                    name: {
                        "summary": profile.summary,
                        "engines": {
                            engine: {"stated": to_plain(stated(part)), "resolved": resolved(engine, part)}
                            for engine, part in profile.engines.items()
                        },
                    }
                    for name, profile in profiles.items()
                }
            }
        )
        return
    table = Table("profile", "what it is for", "engine", "settings")
    for name, profile in profiles.items():
        for number, (engine, part) in enumerate(profile.engines.items()):
            said = "\n".join(f"{key}: {value}" for key, value in to_plain(stated(part)).items())
            first = (name, profile.summary) if number == 0 else ("", "")
            table.add_row(*first, engine, said)
    console.out.print(table)
