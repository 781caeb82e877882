"""What ComfyUI's registry gets: only what the nodes load, and none of the words that its scan reports.

A version with any finding is flagged, and a first version that is flagged is offered to nobody. The real rules are not
public; these words were reported by people whose versions were flagged. Words are never respelt to pass: what has them
moves out of the archive.
"""

from __future__ import annotations

import ast
import fnmatch
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

REPORTED = (
    *("os.environ", "os.getenv", "http.client", "urllib.request", "import socket", "import requests"),
    *("subprocess", "os.system", "Popen", "ctypes", "raw.githubusercontent.com", "pickle.loads", "b64decode"),
)
BUILTINS = re.compile(r"(?<![.\w])(?:eval|exec|__import__)\(")


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone: git knows which files would be packed")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def ignored() -> list[str]:
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_packed(name: str) -> bool:
    for pattern in ignored():
        rule = pattern.lstrip("/")
        if name.startswith(rule) if rule.endswith("/") else fnmatch.fnmatch(name, rule):
            return False
    return True


PACKED = [name for name in tracked() if is_packed(name)] if (ROOT / ".git").exists() else []


def test_every_rule_leaves_something_out():
    names = [*tracked(), "uv.lock"]
    for pattern in ignored():
        rule = pattern.lstrip("/")
        assert any(name.startswith(rule) or name == rule for name in names), pattern


def test_no_packed_file_has_a_word_that_is_reported():
    tracked()
    found = []
    for name in PACKED:
        if name.endswith((".py", ".js", ".toml", ".txt", ".yaml")):
            text = (ROOT / name).read_text(encoding="utf-8")
            found += [(name, word) for word in REPORTED if word in text]
            found += [(name, match[0]) for match in BUILTINS.finditer(text)]
    assert not found
    assert len(PACKED) > 200


def test_what_the_nodes_import_is_packed():
    """Of all modules that a node may come to load, by an import anywhere in them, every one is in the archive."""
    tracked()
    packed = {module_of(Path(name)) for name in PACKED if name.endswith(".py")}
    todo, seen = [m for m in packed if m[:1] in {("nodes",), ()}], set()
    every = {
        module_of(Path(name)) for name in tracked() if name.startswith(("nodes/", "hypir_core/", "__init__"))
    }
    while todo:
        module = todo.pop()
        if module in seen or module not in every:
            continue
        seen.add(module)
        # The reader of environment variables is asked for in one place, which does without.
        assert module in packed or module == ("hypir_core", "process_environment"), ".".join(module)
        todo += [module[:i] for i in range(1, len(module))]
        todo += imports_of(module)
    assert len(seen) > 100


def module_of(path: Path) -> tuple[str, ...]:
    parts = path.with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports_of(module: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    path = ROOT.joinpath(*module)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    package = path.relative_to(ROOT).parts[:-1]

    def walk(node: ast.AST) -> Iterator[tuple[str, ...]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and child.level:
                base = package[: len(package) - child.level + 1]
                target = (*base, *child.module.split(".")) if child.module else base
                yield target
                yield from ((*target, alias.name) for alias in child.names)
            yield from walk(child)

    return walk(ast.parse(path.read_text(encoding="utf-8")))
