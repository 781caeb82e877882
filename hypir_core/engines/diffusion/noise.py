"""Noise of a whole canvas, drawn on the CPU: the same on every device and for every tiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_STREAM = 0x9E3779B97F4A7C15
"""Keeps the draws of one seed apart (the golden ratio in 64 bits, as in SplitMix64)."""

_PARTICLE = 0xD1B54A32D192ED03
"""Keeps the particles of one seed apart."""


class NoiseSource(Protocol):
    """Where the noise of one picture comes from."""

    def like(self, canvas: Tensor, draw: int) -> Tensor:
        """Return standard normal noise shaped like `canvas` [n c *cells], on its device, float32.

        Draw 0 belongs to the start, draw i to the move that ends step i. The same draw is the same noise.
        """
        ...


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


@dataclass(frozen=True)
class ParticleNoise:
    """Noise for several particles of one picture, each with its own; the first one's is `Noise`'s."""

    seed: int

    def like(self, canvas: Tensor, draw: int) -> Tensor:
        """See `NoiseSource`; every image of `canvas` is a particle."""
        each = [
            Noise((self.seed + i * _PARTICLE) % 2**63).like(one[None], draw) for i, one in enumerate(canvas)
        ]
        return torch.cat(each)
