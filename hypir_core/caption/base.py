"""What every captioner is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ..progress import ShouldStop, never

INSTRUCTION = (
    "Describe this picture in one plain sentence of at most 50 words: the subject, the setting, the "
    "materials and textures, the light. Say only what can be seen. Do not mention blur, noise, damage or the "
    "quality of the picture. No line breaks, no introduction."
)
"""Asks for what fits into 75 tokens, and for the content, not the faults: the words steer a restorer."""

_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)


class Captioner(Protocol):
    """Says what a picture shows."""

    def __call__(
        self, image_01: Tensor, *, source: Path | None = None, should_stop: ShouldStop = never
    ) -> str:
        """Return one line of text, without line breaks; it may be empty.

        Args:
            image_01: [1 c h w] in [0,1], any device and float format; c is 1 (grey), 3 (RGB) or 4 (alpha,
                not looked at).
            source: the picture's file, where there is one.
            should_stop: asked before each slow step; yes stops.

        Raises:
            Cancelled: `should_stop` said yes.
            CaptionError: there is no caption to be had; says why.
            ShapeError: not one picture of that shape.
        """
        ...

    def unload(self) -> None:
        """Give back the memory that is held between calls; the next call takes it again."""


def one_line(text: str) -> str:
    """Return `text` without a reasoning model's thoughts, quotes around all of it, and line breaks."""
    line = " ".join(_THOUGHTS.sub(" ", text).split())
    if len(line) > 1 and line[0] == line[-1] == '"' and '"' not in line[1:-1]:
        return line[1:-1].strip()
    return line
