"""Several places as one source, each with a share of the samples."""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from hypir_core.errors import ImageFileError

from .source import Item, Source


@dataclass(frozen=True)
class Part:
    """One place, and how many samples come from it relative to the others."""

    source: Source
    weight: float


@dataclass(frozen=True)
class Mixed:
    """The pictures of all parts, one part after the other. How often each is drawn is decided by `turns`."""

    parts: tuple[Part, ...]
    starts: tuple[int, ...]
    """Number of every part's first picture, and of the one behind the last."""
    hash: str
    """SHA-256 over the weights and the hashes of the parts, not over where they are."""

    @staticmethod
    def of(parts: Sequence[Part]) -> Mixed:
        """Join `parts` in their order."""
        digest = hashlib.sha256()
        for part in parts:
            digest.update(f"{float(part.weight)!r}\0{part.source.hash}\n".encode())
        starts = (0, *accumulate(len(part.source) for part in parts))
        return Mixed(tuple(parts), starts, digest.hexdigest())

    @property
    def weights(self) -> None:
        """Have none of its own: each part is drawn from by its own."""
        return

    @property
    def where(self) -> str:
        """Name all places, for messages."""
        return ", ".join(part.source.where for part in self.parts)

    @property
    def skipped(self) -> tuple[str, ...]:
        """One line for every picture that was left out, with its place."""
        return tuple(f"{part.source.where}: {line}" for part in self.parts for line in part.source.skipped)

    @property
    def left_out(self) -> int:
        """How many pictures were left out at the start."""
        return sum(part.source.left_out for part in self.parts)

    @property
    def paired(self) -> bool:
        """Whether every item of every part brings its partner."""
        return all(part.source.paired for part in self.parts)

    def __len__(self) -> int:
        return self.starts[-1]

    def name(self, index: int) -> str:
        """Return the place and the name there."""
        source, number = self._at(index)
        return f"{source.where}: {source.name(number)}"

    def item(self, index: int) -> Item:
        """Read one picture.

        Raises:
            ImageFileError: it cannot be decoded, or does not fit; begins with its place and name.
        """
        source, number = self._at(index)
        try:
            return source.item(number)
        except ImageFileError as err:
            raise ImageFileError(f"{source.where}: {err}") from err

    def _at(self, index: int) -> tuple[Source, int]:
        part = bisect(self.starts, index) - 1
        return self.parts[part].source, index - self.starts[part]
