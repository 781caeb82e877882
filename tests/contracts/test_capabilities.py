"""Every row of docs/reference/capabilities/ names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/reference/capabilities"
ROWS = {"microscopy": 50, "opensr": 52, "seesr": 47}
"""Page: how many capabilities its system was found to have."""

ROW = re.compile(r"^\| (\d\d) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
NAMED = re.compile(r"`([\w/.]+\.py)(?:::(\w+))?`")


@cache
def functions_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize("page", sorted(ROWS))
def test_every_capability_has_a_test(page: str) -> None:
    rows = ROW.findall((FOLDER / f"{page}.md").read_text(encoding="utf-8"))
    assert [int(number) for number, _, _ in rows] == list(range(1, ROWS[page] + 1))
    for number, _, where in rows:
        assert NAMED.search(where), f"{page} {number}: names no test"


@pytest.mark.parametrize("page", sorted(ROWS))
def test_the_tests_that_a_page_names_are_there(page: str) -> None:
    for file, function in NAMED.findall((FOLDER / f"{page}.md").read_text(encoding="utf-8")):
        path = ROOT / file
        assert path.is_file(), f"{page}: there is no {file}"
        assert not function or function in functions_in(path), f"{page}: {file} has no {function}"


def test_every_page_is_counted() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == sorted(ROWS)
