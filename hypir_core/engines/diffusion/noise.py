"""Noise of a whole canvas, drawn on the CPU: the same on every device and for every tiling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_STREAM = 0x9E3779B97F4A7C15
"""Keeps the draws of one seed apart (the golden ratio in 64 bits, as in SplitMix64)."""


@dataclass(frozen=True)
class Noise:
    """Normal noise of one picture, drawn where it is used: nothing is held, and no order matters."""

    seed: int

    def like(self, canvas: Tensor, draw: int) -> Tensor:
        """Return noise shaped like `canvas`, on its device, float32; the same for the same seed and draw.

        Every image of a batch gets the noise that it would get alone.
        """
        mixed = (self.seed + (draw + 1) * _STREAM) % 2**63
        rng = torch.Generator().manual_seed(mixed)
        one = torch.randn(1, *canvas.shape[1:], generator=rng)
        return one.to(canvas.device).expand_as(canvas)
