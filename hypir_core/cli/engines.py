"""``hypir engines``."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer
from rich.table import Table

from . import console


def engines_command(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the engines, their own settings, and what is missing before they can be used."""
    from ..config import to_plain
    from ..engines.catalog import ENGINES

    rows = []
    for entry in ENGINES:
        engine = entry.load()
        options = {
            f.name: None if f.default is dataclasses.MISSING else to_plain(f.default)
            for f in dataclasses.fields(engine.options)
        }
        rows.append(
            {
                "name": entry.name,
                "summary": entry.summary,
                "options": options,
                "missing": list(engine.missing()()),
            }
        )
    if as_json:
        console.out.print_json(json.dumps({"engines": rows}, ensure_ascii=False))
        return
    table = Table("engine", "what it is", "own settings (--option KEY=VALUE)", "ready")
    for row in rows:
        table.add_row(
            row["name"], row["summary"], ", ".join(row["options"]) or "–", "\n".join(row["missing"]) or "yes"
        )
    console.out.print(table)
