"""Runs of the smallest preset, which take a second."""

from __future__ import annotations

from pathlib import Path

from train.config import TrainConfig, load_config


def words(photos: Path, out: Path, steps: int, *assignments: str) -> list[str]:
    """Return what a person types after ``python -m train``."""
    return ["tiny_cpu_pixel", f"data.root={photos}", f"output_dir={out}", f"max_steps={steps}", *assignments]


def tiny(photos: Path, out: Path, steps: int, *assignments: str) -> TrainConfig:
    preset, *rest = words(photos, out, steps, *assignments)
    return load_config(preset, rest)
