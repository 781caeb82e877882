"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def keep_compiled_modules() -> None:
    """Let this process and all that it starts read modules compiled before, where Python was told to write none.

    Otherwise each process compiles torch anew, which takes longer than most tests. Nothing is written beside a
    source: what is compiled lies in a folder of its own.
    """
    if not sys.dont_write_bytecode:
        return
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


keep_compiled_modules()  # before anything large is imported

import pytest  # noqa: E402
import torch  # noqa: E402

# Networks this small are quicker on one thread, and many times so on a machine that is busy. Not a fixture: what
# fixtures of a wider scope compute must be computed alike.
torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, the long ones come first: one at the end leaves the others idle."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(231)


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN
