"""Less flicker: what a restorer changes in a picture may only change slowly from frame to frame.

What is kept steady is not the picture but its difference to the input, of which only the coarse part counts: motion and
light go on as they were, and what the restorer made of noise settles. Where the coarse input itself changes, something
moved, and the old difference is forgotten there: no ghosts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError
from ..image.resize import resize

COARSE_PX = 4
"""Side of the squares, in input pixels, whose means are the coarse input."""

STILL, MOVED = 0.03, 0.08
"""A change of the coarse input up to the first is noise; from the second on it is motion."""

MOST = 0.95


class Steady:
    """Keeps the difference of a shot's frames steady; make a new one for the next shot."""

    def __init__(self, amount: float):
        """`amount`: 0 leaves every frame as it is; more keeps more of the earlier frames' difference, up to 0.95.

        Raises:
            ConfigError: another number.
        """
        if not 0 <= amount <= MOST:
            raise ConfigError(f"steady: expected 0 to {MOST:g}, got {amount:g}")
        self._amount = amount
        self._before: Tensor | None = None
        self._difference: Tensor | None = None

    def handed_on(self) -> dict[str, Tensor]:
        """Return what the next frame of the shot needs to know of the earlier ones; nothing where nothing is kept."""
        if self._before is None or self._difference is None:
            return {}
        return {"before": self._before, "difference": self._difference}

    def take_up(self, handed_on: Mapping[str, Tensor]) -> None:
        """Go on behind frames of the same shot that another one steadied."""
        self._before, self._difference = handed_on.get("before"), handed_on.get("difference")

    def __call__(self, frame_01: Tensor, restored_01: Tensor) -> Tensor:
        """Return the restored frame [1 c H W] in [0,1], float32, steadied; frames come in their order.

        Args:
            frame_01: [1 c h w], the input.
            restored_01: [1 c H W], what was made of it.
        """
        if self._amount == 0:
            return restored_01
        frame = frame_01.to(restored_01.device, torch.float32)
        coarse = F.avg_pool2d(frame, COARSE_PX, ceil_mode=True, count_include_pad=False)
        size_px = (restored_01.shape[-2], restored_01.shape[-1])
        base = resize(coarse, size_px)
        difference = restored_01.float() - base
        if self._before is not None and self._difference is not None:
            change = (coarse - self._before).square().mean(1, keepdim=True).sqrt()
            # A square beside one that moved holds a part of what moved.
            change = F.max_pool2d(change, 3, stride=1, padding=1)
            still = ((MOVED - change) / (MOVED - STILL)).clamp_(0, 1)
            keep = self._amount * F.interpolate(still, size_px, mode="bilinear", align_corners=False)
            difference += keep * (self._difference - difference)
        self._before, self._difference = coarse, difference
        return (base + difference).clamp_(0, 1)
