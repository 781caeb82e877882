"""Photographs to train on, made here, and a fresh accelerate for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState
from PIL import Image


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps its settings for the whole process; tests use different ones."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    GradientState._reset_state()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six smooth, colourful pictures of 80×64 px."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:64, 0:80] / 8
    for index in range(6):
        fy, fx, phase = rng.uniform(0.3, 1.5, (3, 3))
        waves = [np.sin(fy[c] * y + phase[c]) * np.cos(fx[c] * x) for c in range(3)]
        pixels = (np.stack(waves, -1) * 0.4 + 0.5 + rng.normal(0, 0.02, (64, 80, 3))).clip(0, 1)
        Image.fromarray((pixels * 255).astype(np.uint8)).save(root / f"{index}.png")
    return root
