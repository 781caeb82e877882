"""What a source of pictures is, whatever it reads from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Item:
    """One picture as its source holds it."""

    hq: Tensor
    """uint8 [3 h w], upright."""
    lq: Tensor | None = None
    """Its own low-quality partner, uint8 [3 h/scale w/scale]; None where it is still to be made."""
    prompt: str = ""


class Source(Protocol):
    """Pictures in a fixed order, read one at a time from any process."""

    @property
    def where(self) -> str:
        """What data.root says, for messages."""
        ...

    @property
    def skipped(self) -> tuple[str, ...]:
        """One line for every picture that was left out at the start: which, and why."""
        ...

    @property
    def hash(self) -> str:
        """SHA-256 over what the source lists (names, sizes, prompts), not over the pixels."""
        ...

    @property
    def paired(self) -> bool:
        """Whether every item brings its own low-quality partner."""
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Return what a person would look for: a path, or a shard and the key in it."""
        ...

    def item(self, index: int) -> Item:
        """Read picture `index`.

        Raises:
            ImageFileError: it cannot be decoded, or does not fit the crop or its partner; begins with its name.
        """
        ...
