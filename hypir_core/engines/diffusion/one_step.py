"""One step: the diffusion engine with one step and nothing added, as HYPIR restores."""

from __future__ import annotations

from dataclasses import replace

from ...diffusion.samplers.base import Step
from ...diffusion.samplers.ddim import DDIM
from ...weights.spec import Prediction
from ..base import EngineSpec
from .engine import Diffusion
from .parts import Codec, Conditioner, Denoiser
from .sizing import Sizing
from .starts import Start, as_is


def one_step(
    spec: EngineSpec,
    *,
    codec: Codec,
    denoiser: Denoiser,
    conditioner: Conditioner,
    a_bar: float,
    model_t: int,
    kind: Prediction,
    sizing: Sizing,
    start: Start = as_is,
) -> Diffusion:
    """Return an engine that takes the degraded latent for a noised clean one and solves for the clean one.

    Lin et al., "Harnessing Diffusion-Yielded Score Priors for Image Restoration" (HYPIR), arXiv 2507.20590, section 4.

    Args:
        spec: facts about the engine.
        codec: picture ↔ latent.
        denoiser: predicts at `model_t`.
        conditioner: makes what the denoiser is told.
        a_bar: ā at the timestep whose coefficients apply the prediction.
        model_t: timestep at which the denoiser predicts.
        kind: what it predicts.
        sizing: how a picture lies on the canvas.
        start: what the step begins with: the degraded latent, or one with noise on it.
    """
    return Diffusion(
        spec=spec,
        codec=codec,
        denoiser=replace(denoiser, kind=kind),
        conditioner=conditioner,
        steps=(Step(index=0, of=1, t=model_t, a_bar=a_bar, a_bar_next=1.0, a_bar_before=None),),
        sampler=DDIM(),
        sizing=sizing,
        start=start,
    )
