"""``hypir engines``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Column, Table

from ..config import to_plain
from ..engines.settings import options_of
from ..field_docs import first_sentence
from . import console
from .engine_options import markdown_table

RECIPE_FACTS = (
    "title",
    "licence",
    "link",
    "base_model",
    "prediction",
    "model_t",
    "sliders",
    "note",
)
"""What is told about a recipe, besides its name."""


def engines_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of the documentation.")
    ] = False,
) -> None:
    """List the engines, their own settings, what is missing before they can be used, and the one-step recipes."""
    from ..engines.catalog import ENGINES
    from ..lora.recipe import recipes

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
        families = [
            {name: to_plain(getattr(each, name)) for name in ("name", *RECIPE_FACTS)} for each in recipes()
        ]
        console.tell_json({"engines": rows, "one_step_recipes": families})
        return
    table = Table("engine", "what it is", "ready")
    for row in rows:
        table.add_row(row["name"], row["summary"], "\n".join(row["missing"]) or "yes")
    console.out.print(table)
    flag = Column("setting", no_wrap=True)  # a flag in two lines cannot be copied
    table = Table("engine", flag, "default", "what it does")
    for entry in ENGINES:
        for option in options_of(entry.name, entry.load().options):
            table.add_row(entry.name, option.flag, option.default_text, first_sentence(option.doc))
    console.out.print(table)
    table = Table("recipe of one-step", "licence of the published weights", "link", "worth knowing")
    for each in recipes():
        table.add_row(f"{each.name} ({each.title})", each.licence, each.link, each.note)
    console.out.print(table)
