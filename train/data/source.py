"""What a source of pictures is, whatever it reads from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Channels:
    """How many channels the pictures must have: what the generator makes and takes."""

    hq: int = 3
    """Of the pictures, and of what the generator makes. 1 and 3 mean grey and colour, others are bands."""
    lq: int = 3
    """Of the low-quality halves, which the generator takes."""


COLOUR = Channels()


@dataclass(frozen=True, eq=False)
class Item:
    """One picture as its source holds it."""

    hq: Tensor
    """[c *cells] at the depth of the file (uint8, uint16, or float32: pictures in [0,1], scenes in their own
    values), upright."""
    lq: Tensor | None = None
    """Its own low-quality partner [c *cells/scale]; None where it is still to be made."""
    prompt: str = ""
    valid: Tensor | None = None
    """bool [1 *cells], true where the target has data; None: everywhere."""
    light: Tensor | None = None
    """[4] of `measured.Exposed`, where a microscope measured the low-quality half."""


@dataclass(frozen=True, eq=False)
class Weights:
    """How often each picture of a source is drawn, relative to the others."""

    numbers: Tensor
    """float64 [n], 0 or more, not all 0."""


class Source(Protocol):
    """Pictures in a fixed order, read one at a time from any process."""

    @property
    def where(self) -> str:
        """What data.root says, for messages."""
        ...

    @property
    def skipped(self) -> tuple[str, ...]:
        """One line for every picture that was left out at the start, and every shard that is damaged: why."""
        ...

    @property
    def left_out(self) -> int:
        """How many pictures were left out at the start."""
        ...

    @property
    def hash(self) -> str:
        """SHA-256 over what the source lists (names, sizes, prompts), not over the pixels."""
        ...

    @property
    def paired(self) -> bool:
        """Whether every item brings its own low-quality partner."""
        ...

    @property
    def weights(self) -> Weights | None:
        """How often each is drawn; None: all alike, each once in every epoch."""
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
