"""Edits of the clean estimate that belong to pixels: its limits, and guidance that knows where the picture ends."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...diffusion.edits.base import X0Edit
from ...diffusion.samplers.base import Step
from ..diffusion.sizing import mirror_to


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Cut the estimate to what the network knows as black and white."""

    low: float
    high: float

    def __call__(self, x0: Tensor, step: Step) -> Tensor:
        """See `X0Edit`."""
        del step
        return x0.clamp(self.low, self.high)


@dataclass(frozen=True, kw_only=True, eq=False)
class OnContent:
    """Apply an edit to the picture alone; what pads it to the canvas is its mirror afterwards, as it was before."""

    edit: X0Edit
    content_px: tuple[int, ...]

    def __call__(self, x0: Tensor, step: Step) -> Tensor:
        """See `X0Edit`."""
        height, width = self.content_px
        return mirror_to(self.edit(x0[..., :height, :width], step), x0.shape[-2:])
