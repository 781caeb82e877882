"""Parts stay parts: no file is a monolith, and classes are put together rather than inherited."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted(path for room in ("hypir_core", "train", "nodes") for path in (ROOT / room).rglob("*.py"))

MOST_LINES = 420
MOST_DEPTH = 3
"""A class, its base and the base of that; further ones are Python's and torch's."""


def test_no_file_is_a_monolith():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert len(lengths) > 400
    assert not {str(path): lines for path, lines in lengths.items() if lines > MOST_LINES}


def bases() -> dict[str, set[str]]:
    """Return class → names of its bases, over the whole project; classes of one name count as one."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names = {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases}
                found.setdefault(node.name, set()).update(names - {node.name})
    return found


def test_classes_are_put_together_and_not_inherited():
    known = bases()

    @cache
    def depth(name: str) -> int:
        return 0 if name not in known else 1 + max((depth(base) for base in known[name]), default=0)

    assert not {name: depth(name) for name in known if depth(name) > MOST_DEPTH}
    assert any(depth(name) == MOST_DEPTH for name in known)
