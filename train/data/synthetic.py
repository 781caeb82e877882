"""Specimens of a microscope by number, as a data set that needs no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hypir_core.errors import ConfigError, UnknownNameError
from hypir_core.physics.specimens import SPECIMENS, specimen

from .seeds import generator_for


@dataclass(frozen=True)
class Synthetic:
    """Clean pictures by number: the same number, the same picture, on every machine and in every process.

    Args:
        root: says which set, by its last part: another word, other pictures. Nothing is read or written there.
        count: how many there are; they are made when they are asked for.
        side_px: of each.
        kinds: which of `SPECIMENS`, one after the other.
        seed: another set.
    """

    root: Path
    count: int = 100_000
    side_px: int = 96
    kinds: Sequence[str] = tuple(SPECIMENS)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.side_px < 16:
            raise ConfigError(
                f"synthetic_microscopy: expected count of 1 or more and side_px of 16 or more, got {self.count} and "
                f"{self.side_px}"
            )
        if not self.kinds:
            raise ConfigError(f"synthetic_microscopy: kinds must name one or more of {', '.join(SPECIMENS)}")
        for kind in self.kinds:
            if kind not in SPECIMENS:
                raise UnknownNameError("kind of specimen", kind, SPECIMENS)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        """Return picture `index`: [1 side side], float32, from 0 to 1."""
        kind = self.kinds[index % len(self.kinds)]
        generator = generator_for(self.seed, f"{Path(self.root).name} {kind}", index)
        return specimen(kind, self.side_px, generator)
