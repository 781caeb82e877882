"""Arrows point one way: nodes → hypir_core ← train; the core stays light and alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hypir_core

ROOT = Path(hypir_core.__file__).parents[1]

FORBIDDEN = {
    "hypir_core": {
        "nodes",
        "train",
        "comfy",
        "comfy_api",
        "folder_paths",
        "accelerate",
        "lpips",
        "open_clip",
        "peft",
    },
    "train": {"nodes", "comfy", "comfy_api", "folder_paths"},
    "nodes": {"train", "diffusers", "accelerate", "peft", "lpips", "open_clip"},
}


def imports(path: Path) -> set[tuple[int, str]]:
    """Return (relative level, top-level name) of every import of a file, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(0, alias.name.split(".")[0]) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.level, (node.module or "").split(".")[0]))
    return found


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_arrows(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files or package == "nodes"
    for path in files:
        absolute = {name for level, name in imports(path) if level == 0}
        assert not absolute & FORBIDDEN[package], path
        if package in {"hypir_core", "nodes"}:
            assert "hypir_core" not in absolute, f"{path}: imports inside hypir_core and nodes are relative"


def test_only_the_host_folder_imports_comfyui():
    files = sorted((ROOT / "nodes").rglob("*.py"))
    assert any(path.parent.name == "host" for path in files)
    for path in files:
        absolute = {name for level, name in imports(path) if level == 0}
        if path.parent.name != "host":
            assert not absolute & {"comfy", "comfy_api", "folder_paths", "server", "execution"}, path


@pytest.mark.parametrize("name", ["utils", "common", "helpers", "misc"])
def test_no_file_is_a_drawer(name):
    assert not [p for package in FORBIDDEN for p in (ROOT / package).rglob(f"{name}.py")]


def test_import_is_light_and_does_not_pull_heavy_packages():
    code = (
        "import sys, time; start = time.perf_counter(); import hypir_core; "
        "seconds = time.perf_counter() - start; "
        "print(seconds, *[m for m in ('torch', 'diffusers', 'transformers', 'kornia', 'pydantic') if m in sys.modules])"
    )
    seconds, *heavy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert float(seconds) < 0.3
    assert heavy == []


def test_the_pipeline_needs_no_optional_package():
    """What ComfyUI already has is enough: the built-in restorer runs with every extra hidden."""
    hidden = ["diffusers", "transformers", "kornia", "spandrel", "typer", "rich", "tifffile", "imagecodecs"]
    code = (
        "import sys\n"
        f"for name in {hidden!r}: sys.modules[name] = None\n"
        "import torch\n"
        "from hypir_core import Request, Runtime, load_engine, restore\n"
        "device = torch.device('cpu')\n"
        "engine = load_engine('built-in', device=device, dtype='float32')\n"
        "print(tuple(restore(engine, torch.rand(1, 3, 9, 7), Request(), Runtime()).image_01.shape))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "(1, 3, 36, 28)"


def test_public_api_is_sorted_and_complete():
    public = hypir_core.__all__
    assert sorted(public) == sorted(set(public)) == sorted(hypir_core._HOME)
    assert list(public) == sorted(public, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    for name in public:
        assert getattr(hypir_core, name) is not None
        assert getattr(hypir_core, name).__module__.startswith("hypir_core") or name.isupper()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hypir_core.nonsense  # noqa: B018


def test_the_engines_and_their_settings_are_listed_without_torch():
    """Every start of the command line pays for what this imports."""
    code = (
        "import sys; from hypir_core.cli.engine_options import engine_options; engine_options(); "
        "print(*[m for m in ('torch', 'numpy', 'diffusers', 'kornia') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []
