"""Results of a network that draws: one possible picture, or what many have in common, or where they differ.

The latents are drawn once for a run, from its seed, and are the same for every tile and every picture of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.architectures.stochastic import draw_latents
from ...tiling.geometry import Everywhere
from .options import Result

LATENT = "latent"
"""Name of the guide."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How a network is asked."""

    noise_dim: int
    """Numbers in a latent."""
    result: Result = Result.sample
    samples: int = 1
    """Pictures that are drawn for it."""

    def guide(self, seed: int, axes: int) -> Everywhere:
        """Return the latents of a run, [1 samples·noise_dim 1 …]."""
        drawn = draw_latents(self.noise_dim, seed, count=self.samples)
        return Everywhere(drawn.reshape(1, -1, *[1] * axes))

    def run(self, make: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
        """Return the result of a tile.

        The moments are gathered one picture at a time (Welford, "Note on a method for calculating corrected sums of
        squares and products", Technometrics 4(3), 1962), so two maps are in memory, not `samples`.

        Args:
            make: latent [n noise_dim] → picture [n c *cells].
            latents: the guide, cropped: [n samples·noise_dim 1 …].
        """
        first, *others = latents.flatten(1).split(self.noise_dim, 1)
        mean = make(first)
        if self.result is Result.sample:
            return mean
        spread = mean.new_zeros(mean.shape)
        for count, z in enumerate(others, 2):
            made = make(z)
            before = made - mean
            mean = mean + before / count
            spread += before * (made - mean)
        deviation = (spread / self.samples).sqrt()
        made = {Result.mean: (mean,), Result.deviation: (deviation,), Result.both: (mean, deviation)}
        return torch.cat(made[self.result], 1)
