"""Pictures know no weights, weights know no LoRAs, LoRAs know no models: arrows between the low rooms point down."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hypir_core

CORE = Path(hypir_core.__file__).parent

MAY_IMPORT = {
    "image": {"atomic", "config", "errors", "registry"},
    "weights": {"atomic", "config", "environment", "errors", "image"},
    "lora": {"atomic", "color.mode", "config", "errors", "weights"},
}
"""Room → modules and rooms of the core that it may import, besides itself."""


def rooms_imported(path: Path) -> set[str]:
    """Return the room of every relative import of a file; of a room with a part that others may import, that part."""
    parts_of_rooms = {name for names in MAY_IMPORT.values() for name in names if "." in name}
    found: set[str] = set()
    inside = path.relative_to(CORE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = inside[: len(inside) - node.level + 1]
            parts = (*start, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                names = (*parts, alias.name)
                part = ".".join(names[:2])
                found.add(part if part in parts_of_rooms else names[0])
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_low_room_imports_only_what_lies_below_it(room: str):
    files = sorted((CORE / room).rglob("*.py"))
    assert len(files) > 3
    for path in files:
        assert rooms_imported(path) <= MAY_IMPORT[room] | {room}, path
