"""Measurements of targets as a microscope makes them: blur, counted light, reading noise.

The low-quality half is (electrons − background) per electron of white, so that it has the units of the target; how many
electrons that is stands beside it, since the noise depends on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from hypir_core.image.ranges import RangeConfig
from hypir_core.physics.camera import Camera
from hypir_core.physics.condition import light_range
from hypir_core.physics.operator import PsfOperator
from hypir_core.physics.psf import gaussian_psf, read_psf
from hypir_core.weights.pixel_spec import LIGHT

from ..config.physics import PhysicsConfig
from .seeds import uniform


@dataclass(frozen=True, eq=False)
class Exposed:
    """One measurement."""

    lq: Tensor
    """[c h w], float32, in the units of the target; may be below 0."""
    light: Tensor
    """[4], float32: electrons above the background per unit of the files; those that the network sees as 0, and those
    per unit of the network, as `physics.condition.light_range` finds them; pixels of the camera in a cell, 1."""
    label: str
    """What was drawn."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Makes measurements; the same generator state, the same measurement."""

    config: PhysicsConfig
    units: RangeConfig = LIGHT
    """Fitted on every measurement, with the margin around it."""

    def expose(self, hq: Tensor, generator: torch.Generator, *, photons: float | None = None) -> Exposed:
        """Measure one target [c h w], float32 in file values, on the CPU's random numbers.

        `photons` fixes what is drawn otherwise.
        """
        config = self.config
        low, high = config.photons
        drawn = math.exp(uniform(generator, math.log(low), math.log(high)))
        sigma = uniform(generator, *config.psf_sigma_px)
        peak = drawn if photons is None else photons
        operator = self._file_psf or PsfOperator(gaussian_psf((sigma, sigma)), boundary=config.boundary)
        light = (hq.float() / config.white).clamp(min=0)[None] * peak
        expected = operator.A(light).clamp(min=0) + config.background_e
        y_e = torch.poisson(expected.cpu(), generator=generator)
        if config.read_noise_e:
            y_e = y_e + config.read_noise_e * torch.randn(y_e.shape, generator=generator)
        units = light_range(self.units, y_e, background_e=config.background_e)
        per_unit = peak / config.white
        return Exposed(
            lq=((y_e - config.background_e) / per_unit)[0].to(hq.device),
            light=torch.tensor([per_unit, units.middle[0], units.width[0], 1.0], dtype=torch.float32),
            label=f"{peak:.3g} electrons at white, {'psf' if config.psf else f'σ {sigma:.2f} px'}",
        )

    @property
    def middle_psf(self) -> Tensor:
        """The point spread, or the Gaussian in the middle of the range."""
        if self._file_psf:
            return self._file_psf.psf
        sigma = sum(self.config.psf_sigma_px) / 2
        return gaussian_psf((sigma, sigma))

    @cached_property
    def _file_psf(self) -> PsfOperator | None:
        path = self.config.psf
        return None if path is None else PsfOperator(read_psf(path), boundary=self.config.boundary)


def camera_of(config: PhysicsConfig) -> Camera:
    """Return the camera of these measurements: electrons as they are."""
    return replace(Camera(), read_noise_e=config.read_noise_e)
