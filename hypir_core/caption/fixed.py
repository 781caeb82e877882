"""The same words for every picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..progress import ShouldStop, never
from .base import Captioner, one_line

if TYPE_CHECKING:
    from .catalog import FixedOptions


class FixedCaptioner(Captioner):
    """Returns one text."""

    def __init__(self, options: FixedOptions):
        self._text = one_line(options.text)

    def __call__(
        self, image_01: Tensor, *, source: Path | None = None, should_stop: ShouldStop = never
    ) -> str:
        """Return the text, whatever the picture shows."""
        return self._text
