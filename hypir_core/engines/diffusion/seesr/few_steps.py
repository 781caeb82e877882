"""The walk of SeeSR on any networks: which steps are taken, from where, and what is done between them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ....diffusion.edits.steering import nearest_to_mean
from ....diffusion.samplers.base import Step, plan_steps
from ....diffusion.samplers.ddim import DDIM
from ....diffusion.spacing import Spacing
from ....diffusion.timesteps import timesteps
from ....tiling.sample import SampleSize
from ...base import EngineSpec
from ..engine import Diffusion, Particles, no_edits
from ..noise import Noise, ParticleNoise
from ..parts import Codec, Conditioner, Denoiser
from ..starts import as_is, from_noise, noised
from .options import SamplerName, SeesrOptions, StartFrom
from .sizing import SeesrSizing

NAME = "seesr"


def planned(a_bars: Tensor, options: SeesrOptions, spacing: Spacing, *, offset: int = 0) -> tuple[Step, ...]:
    """Return the steps that `options` asks for, on a schedule ā [timesteps]."""
    visited = timesteps(options.start_t + 1, options.steps, spacing, offset=offset)
    return plan_steps(a_bars, visited)


def few_steps(
    spec: EngineSpec,
    options: SeesrOptions,
    *,
    codec: Codec,
    denoiser: Denoiser,
    conditioner: Conditioner,
    steps: tuple[Step, ...],
    native_px: int = 512,
) -> Diffusion:
    """Return the engine on any networks, with the sampler, start, particles and sizes that `options` asks for."""
    alone = options.particles == 1
    return Diffusion(
        spec=spec,
        codec=replace(codec, decode_sample=DECODE_SAMPLE),
        denoiser=replace(denoiser, sample=STEP_SAMPLE),
        conditioner=conditioner,
        steps=steps,
        sampler=DDIM(eta=0.0 if options.sampler is SamplerName.ddim else 1.0),
        start=STARTS[options.start],
        edits=no_edits if alone else (lambda _prepared, _request: (options.steering(),)),
        particles=None if alone else Particles(count=options.particles, result=_nearest),
        noise=Noise if alone else ParticleNoise,
        sizing=SeesrSizing(process_px=options.process_px, native_px=native_px),
    )


def _nearest(images: Tensor) -> Tensor:
    number = nearest_to_mean(images)
    return images[number : number + 1]


STEP_SAMPLE = SampleSize(crop_px=256, of_tile=1.0)
"""A step from t = 999 divides what is wrong by √ā = 0.07, so the sample is larger than that of one step at t = 200."""

DECODE_SAMPLE = SampleSize(crop_px=256, of_tile=0.9)
"""Larger crops than one step has: on a network with random weights the borders of small ones cost 7 dB."""

STARTS = {StartFrom.lq: noised, StartFrom.noise: from_noise, StartFrom.as_is: as_is}
