"""JSON schemas of settings: what an editor checks a file of settings against while it is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from .field_docs import field_docs

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(cls: type) -> dict[str, Any]:
    """Return the schema of a dataclass that `config.build` reads: names, types, defaults, and what each setting means.

    A key that no field takes is an error in it too. Checks that span fields are not in it: `config.build` makes them.
    """
    from pydantic import TypeAdapter

    schema = TypeAdapter(cls).json_schema()
    named = {each.__name__: each for each in _dataclasses(cls, set())}
    for part in (schema, *schema.get("$defs", {}).values()):
        for name, text in field_docs(named[part["title"]]).items() if part.get("title") in named else ():
            if text and name in part["properties"]:
                part["properties"][name]["description"] = text
    return {"$schema": DIALECT, **schema}


def _dataclasses(cls: Any, seen: set[Any]) -> Iterator[type]:
    """Yield a dataclass and those that its fields are made of."""
    if cls in seen:
        return
    seen.add(cls)
    if dataclasses.is_dataclass(cls) and isinstance(cls, type):
        yield cls
        for hint in get_type_hints(cls).values():
            yield from _dataclasses(hint, seen)
    for hint in get_args(cls):
        if not isinstance(hint, (str, list)):
            yield from _dataclasses(hint, seen)
