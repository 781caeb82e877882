"""No words: what a restorer that listens to a prompt is given by default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..progress import ShouldStop, never
from .base import Captioner

if TYPE_CHECKING:
    from .catalog import EmptyOptions


class EmptyCaptioner(Captioner):
    """Returns the empty text."""

    def __init__(self, options: EmptyOptions):
        del options

    def __call__(
        self, image_01: Tensor, *, source: Path | None = None, should_stop: ShouldStop = never
    ) -> str:
        """Return ``""``."""
        return ""
