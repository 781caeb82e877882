"""The networks of microscopes inside this package, by the words that name them as weights."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "weights" / "builtin"

BUILT_IN_PIXEL = {
    "built-in": FOLDER / "microscopy.safetensors",
    "built-in-one-step": FOLDER / "microscopy_one_step.safetensors",
}
"""Word → file: diffusion, and regression in one step. docs/model_cards/microscopy.md says how they were made."""


def weights_path(given: Path) -> Path:
    """Return the file that is meant: one of `BUILT_IN_PIXEL` by its word, unless there is a file of that name."""
    return given if given.is_file() else BUILT_IN_PIXEL.get(str(given), given)
