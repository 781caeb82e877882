"""What the docstring under a dataclass field says: the one text that flags, tables and help pages show."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from functools import cache
from typing import Any


@cache
def field_docs(cls: type) -> dict[str, str]:
    """Return field → the docstring under it, as one line, for the fields of a dataclass and of its bases.

    Python does not keep these strings; they are read from the source of the class. A field without one has "".
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            found |= _of_class(base)
    return {field.name: found.get(field.name, "") for field in dataclasses.fields(cls)}


def first_sentence(text: str) -> str:
    """Return a text up to its first full stop, without it; the whole of it where there is none."""
    head, stop, _ = text.partition(". ")
    return head if stop else text.removesuffix(".")


def _of_class(cls: type) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body: list[Any] = tree.body[0].body  # type: ignore[attr-defined]  # a class statement
    docs = {}
    for field, below in zip(body, [*body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        text = (
            below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
        )
        docs[field.target.id] = " ".join(text.split()) if isinstance(text, str) else ""
    return docs
