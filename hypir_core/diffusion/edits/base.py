"""The contract of an edit, and how several follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from ...errors import ShapeError
from ..samplers.base import Step


class X0Edit(Protocol):
    """A correction of the clean estimate. It sees the whole canvas, so no tile border can show in it."""

    def __call__(self, x0: Tensor, step: Step) -> Tensor:
        """Return the corrected estimate.

        Shapes: [n c …] on the whole canvas, the same out; float32 or float64, the same out; units are those of the
        network's canvas. `x0` itself is left as it is.
        """
        ...


def apply_edits(x0: Tensor, step: Step, edits: Sequence[X0Edit]) -> Tensor:
    """Return `x0` after every edit, in the order given; without edits, `x0` itself.

    Raises:
        ShapeError: an edit changed the shape.
    """
    for edit in edits:
        edited = edit(x0, step)
        if edited.shape != x0.shape:
            raise ShapeError(
                f"the edit {type(edit).__name__} must keep the shape {list(x0.shape)}, got {list(edited.shape)}"
            )
        x0 = edited
    return x0
