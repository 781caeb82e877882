"""Pictures know no weights, weights know no LoRAs, LoRAs know no models: arrows between the low rooms point down."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hypir_core

CORE = Path(hypir_core.__file__).parent

MAY_IMPORT = {
    "image": {"config", "errors"},
    "weights": {"atomic", "config", "errors", "image"},
    "lora": {"atomic", "config", "errors", "weights"},
}
"""Room → modules and rooms of the core that it may import, besides itself."""


def rooms_imported(path: Path) -> set[str]:
    """Return the first part below `hypir_core` of every relative import of a file."""
    found: set[str] = set()
    inside = path.relative_to(CORE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = inside[: len(inside) - node.level + 1]
            parts = (*start, *(node.module.split(".") if node.module else ()))
            found |= {(*parts, alias.name)[0] for alias in node.names}
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_low_room_imports_only_what_lies_below_it(room: str):
    files = sorted((CORE / room).rglob("*.py"))
    assert len(files) > 3
    for path in files:
        assert rooms_imported(path) <= MAY_IMPORT[room] | {room}, path
