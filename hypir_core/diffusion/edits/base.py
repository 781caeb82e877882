"""What an edit is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from ..samplers.base import Step


class X0Edit(Protocol):
    """A correction of the clean estimate, on the whole canvas."""

    def __call__(self, x0: Tensor, step: Step) -> Tensor:
        """Return the corrected estimate."""
        ...


def apply_edits(x0: Tensor, step: Step, edits: Sequence[X0Edit]) -> Tensor:
    """Apply edits in order."""
    for edit in edits:
        x0 = edit(x0, step)
    return x0
