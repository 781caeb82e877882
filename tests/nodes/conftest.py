"""The plugin's folder as a package, loaded as ComfyUI loads it: by its path, under a name made of it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def plugin():
    """import_(".nodes.convert") → that module of the plugin; only what needs no ComfyUI can be had here."""
    name = str(ROOT).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield lambda path="": importlib.import_module(path, name) if path else module
    for loaded in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
        del sys.modules[loaded]
