"""`stochastic`: a residual generator that a latent vector tells which of the possible pictures to make.

Every block's features are scaled and shifted by what a small network makes of the latent z, as in conditional
normalisation (Perez et al., arXiv 1709.07871, equation 1). One z holds for a whole picture, so all tiles share it.

Parameter names and numbers agree with those of opensr-srgan 0.5.1, whose files load.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import ConfigError, ShapeError
from .nd import same_conv
from .residual import Trunk, TrunkOptions
from .sizes import at_least_one


@dataclass(frozen=True, kw_only=True)
class StochasticOptions(TrunkOptions):
    """Size of the network."""

    noise_dim: int = 128
    """Numbers in the latent vector."""

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = at_least_one(self, "noise_dim")
        if problems:
            raise ConfigError(problems)


class ModulatedBlock(nn.Module):
    """x + scale · conv₂(σ(conv₁(x)·(1 + γ) + β)) with γ, β of the latent."""

    def __init__(self, options: StochasticOptions):
        super().__init__()
        dims, channels, kernel = options.dims, options.channels, options.body_kernel
        self.res_scale = options.res_scale
        self.conv1 = same_conv(dims, channels, channels, kernel)
        self.act = nn.PReLU()
        self.conv2 = same_conv(dims, channels, channels, kernel)
        self.noise_mlp = nn.Sequential(
            nn.Linear(options.noise_dim, channels), nn.SiLU(), nn.Linear(channels, 2 * channels)
        )

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return `x` plus the scaled change."""
        style = self.noise_mlp(z)
        gamma, beta = style.reshape(*style.shape, *[1] * (x.ndim - 2)).chunk(2, 1)
        return x + self.res_scale * self.conv2(self.act(self.conv1(x) * (1 + gamma) + beta))


class Stochastic(Trunk):
    """A `Trunk` of `ModulatedBlock`."""

    Options = StochasticOptions

    def __init__(self, options: StochasticOptions):
        blocks = (ModulatedBlock(options) for _ in range(options.blocks))
        super().__init__(options, blocks, reach=2 * (options.body_kernel // 2))
        self.noise_dim = options.noise_dim
        """Numbers in the latent vector."""

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Enlarge a batch; the network runs in its weights' format.

        Args:
            x: [b in_channels *cells].
            z: the latent [b noise_dim], normal. Without it, training draws one for every picture, from torch's own
                generator as dropout does; evaluation takes zeros, the middle of all.

        Raises:
            ShapeError: `z` has another shape.
        """
        wanted = (x.shape[0], self.noise_dim)
        if z is None:
            make = torch.randn if self.training else torch.zeros
            z = make(wanted, device=x.device)
        elif tuple(z.shape) != wanted:
            raise ShapeError(
                f"stochastic: expected one latent of {self.noise_dim} numbers for each of {wanted[0]} pictures, got "
                f"{'×'.join(map(str, z.shape))}"
            )
        return self.run(x, z)


def draw_latents(noise_dim: int, seed: int, *, count: int = 1) -> Tensor:
    """Return the latents [count noise_dim] of a seed, float32 on the CPU: the first n are the same for every count."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(noise_dim, generator=generator) for _ in range(count)])
