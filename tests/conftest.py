"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"


# Networks this small are quicker on one thread, and many times so on a machine that is busy. Not a fixture: what
# fixtures of a wider scope compute must be computed alike.
torch.set_num_threads(1)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(231)


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN
