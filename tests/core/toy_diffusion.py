"""A toy engine: the canvas is the picture, and the denoiser is the closed form of a mixture of Gaussians.

For pixels that come from Σ wₖ·N(μₖ, s²) the best estimate of x0 given x_t is known: x_t is a mixture of N(√ā·μₖ, ā·s² +
1 − ā), and within one component the posterior mean is linear in x_t. Every pixel is for itself, so tiles cannot matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hypir_core.diffusion.samplers import SAMPLERS
from hypir_core.diffusion.samplers.base import Step, plan_steps
from hypir_core.diffusion.schedule import NoiseSchedule, a_bars64
from hypir_core.diffusion.timesteps import Spacing, timesteps
from hypir_core.engines.base import EngineSpec
from hypir_core.engines.diffusion.engine import Diffusion, no_edits
from hypir_core.engines.diffusion.parts import IDENTITY, Condition, Denoiser, Placing
from hypir_core.engines.diffusion.sizing import HouseSizing
from hypir_core.engines.diffusion.starts import from_noise
from hypir_core.image.ranges import PM1
from hypir_core.tiling.plan import TileConfig
from hypir_core.weights.spec import Prediction

MIDDLES = (-0.6, 0.1, 0.7)
WEIGHTS = (0.3, 0.5, 0.2)
SPREAD = 0.05


def posterior_mean(x: Tensor, a_bar: float) -> Tensor:
    """Return E[x0 | x_t], any shape."""
    variance = a_bar * SPREAD**2 + 1 - a_bar
    middles = torch.tensor(MIDDLES, dtype=x.dtype)
    off = x[..., None] - a_bar**0.5 * middles
    share = torch.softmax(torch.tensor(WEIGHTS, dtype=x.dtype).log() - off.square() / (2 * variance), -1)
    within = middles + a_bar**0.5 * SPREAD**2 / variance * off
    return (share * within).sum(-1)


def toy_engine(
    *,
    steps: int = 20,
    sampler: str = "ddim",
    kind: Prediction = Prediction.eps,
    start=from_noise,
    edits=no_edits,
) -> Diffusion:
    """Return the engine for 3-channel pictures in [0,1], worked on in [-1,1]."""

    def predict(x: Tensor, step: Step, _condition: object, _guides: object) -> Tensor:
        x0, a = posterior_mean(x, step.a_bar), step.a_bar
        if kind is Prediction.x0:
            return x0
        eps = (x - a**0.5 * x0) / (1 - a) ** 0.5
        return eps if kind is Prediction.eps else a**0.5 * eps - (1 - a) ** 0.5 * x0

    curve = a_bars64(NoiseSchedule())
    return Diffusion(
        spec=EngineSpec(name="toy", weights="a mixture of Gaussians", default_scale=1.0),
        codec=IDENTITY,
        denoiser=Denoiser(
            predict=predict,
            kind=kind,
            grain_px=4,
            tile=TileConfig(tile_px=64, overlap_px=16),
            min_tile_px=16,
            placing=Placing(bytes_per_px=100.0),
        ),
        conditioner=lambda _image, _canvas, _request: Condition(),
        steps=plan_steps(curve, timesteps(len(curve), steps, Spacing.trailing)),
        sampler=SAMPLERS.get(sampler)(),
        start=start,
        edits=edits,
        sizing=HouseSizing(native_px=16, grain_px=4),
        value_range=PM1,
    )
