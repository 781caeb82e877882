"""``hypir engines``."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from ..field_docs import first_sentence
from . import console
from .engine_options import markdown_table, options_of


def engines_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of the documentation.")
    ] = False,
) -> None:
    """List the engines, their own settings, and what is missing before they can be used."""
    from ..engines.catalog import ENGINES

    if markdown:
        typer.echo(markdown_table(), nl=False)
        return
    rows = []
    for entry in ENGINES:
        engine = entry.load()
        options = options_of(entry.name, engine.options)
        rows.append(
            {
                "name": entry.name,
                "summary": entry.summary,
                "options": {option.name: option.plain_default for option in options},
                "about": {option.name: option.doc for option in options},
                "flags": {option.name: option.flag for option in options},
                "missing": list(engine.missing()()),
            }
        )
    if as_json:
        console.out.print_json(json.dumps({"engines": rows}, ensure_ascii=False))
        return
    table = Table("engine", "what it is", "ready")
    for row in rows:
        table.add_row(row["name"], row["summary"], "\n".join(row["missing"]) or "yes")
    console.out.print(table)
    table = Table("engine", "setting", "default", "what it does")
    for entry in ENGINES:
        for option in options_of(entry.name, entry.load().options):
            table.add_row(entry.name, option.flag, option.default_text, first_sentence(option.doc))
    console.out.print(table)
