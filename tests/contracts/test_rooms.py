"""The rooms of the library: arrows go one way, without a circle; every engine has its folder, its line and its test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypir_core.engines.catalog import ENGINES

ROOT = Path(__file__).parents[2]
CORE = ROOT / "hypir_core"

FLOORS = (
    {"errors", "version", "allocator", "progress", "process_environment"},
    {"registry", "config", "atomic", "field_docs", "device", "runtime", "environment"},
    {"image", "debug", "residency", "schema"},
    {"tiling"},
    {"files", "color", "weights"},
    {"degrade", "metrics", "diffusion", "lora", "finishing", "conditions"},
    {"request", "models", "physics"},
    {"tags", "components"},
    {"engines", "caption"},
    {"checks", "mixing", "reporting", "clip"},
    {"pipeline", "profile", "scenes"},
    {"streaming", "chained"},
    {"batch", "measure"},
    {"web"},
    {"cli"},
)
"""From the ground up: a room imports from floors below its own, and from itself."""


def imports_of(path: Path, *, at_run_time: bool) -> Iterator[str]:
    """Yield the modules of the library that a file imports, dotted from its root."""
    package = path.relative_to(CORE).parts[:-1]
    for node in walk(ast.parse(path.read_text(encoding="utf-8")), at_run_time=at_run_time):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            if node.module:
                yield ".".join((*base, node.module))
            else:
                yield from (".".join((*base, alias.name)) for alias in node.names)


def walk(node: ast.AST, *, at_run_time: bool) -> Iterator[ast.AST]:
    """Yield nodes; with `at_run_time`, without what only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if at_run_time and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from walk(child, at_run_time=at_run_time)


def room_of(dotted: str) -> str:
    return dotted.partition(".")[0]


def home_of(path: Path) -> str:
    return room_of(".".join(path.relative_to(CORE).with_suffix("").parts))


FILES = sorted(p for p in CORE.rglob("*.py") if p != CORE / "__init__.py")


def test_every_room_has_a_floor():
    rooms = {home_of(path) for path in FILES}
    assert rooms == set().union(*FLOORS)


def test_no_arrow_goes_up():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    for path in FILES:
        here = home_of(path)
        for target in imports_of(path, at_run_time=True):
            there = room_of(target)
            if there == here or not there:
                continue
            assert floor[there] < floor[here], f"{path} imports {target}, from no floor below"


def test_no_circle():
    """Module by module, with imports inside functions."""
    module_of = {path: ".".join(path.relative_to(CORE).with_suffix("").parts) for path in FILES}
    known = set(module_of.values())
    arrows = {
        module_of[path]: {t for t in imports_of(path, at_run_time=True) if t in known} - {module_of[path]}
        for path in FILES
        if path.name != "__init__.py"
    }
    done: set[str] = set()
    while ready := {m for m, targets in arrows.items() if m not in done and targets & set(arrows) <= done}:
        done |= ready
    left = set(arrows) - done
    assert not left, f"these import each other: {sorted(left)}"


def test_every_engine_folder_has_a_line_in_the_catalog_and_every_line_a_test():
    folders = {path.name for path in (CORE / "engines").iterdir() if (path / "__init__.py").is_file()}
    catalog = ast.parse((CORE / "engines" / "catalog.py").read_text(encoding="utf-8"))
    loaders = {
        node.value.split(".")[1]
        for node in ast.walk(catalog)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(".")
    }
    assert folders == loaders
    tests = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    for name in ENGINES.names():
        assert f'"{name}"' in tests, f"no test names engine {name!r}"


@pytest.mark.parametrize("word", ["engine", "name"])
def test_nothing_outside_asks_which_engine_it_has(word):
    """`if engine == "one-step"` is what the spec and the stages are for."""
    names = set(ENGINES.names())
    for path in [*FILES, *(ROOT / "nodes").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Compare):
                continue
            sides = [node.left, *node.comparators]
            asked = any(isinstance(s, (ast.Name, ast.Attribute)) and word in ast.dump(s) for s in sides)
            told = any(isinstance(s, ast.Constant) and s.value in names for s in sides)
            assert not (asked and told), f"{path}:{node.lineno}"
