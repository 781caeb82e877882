"""How low-quality pictures are measured where a microscope makes them, instead of a photo's degradation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from hypir_core.config import strict
from hypir_core.physics.operator import Boundary

from .checks import at_least, raise_all


@dataclass(frozen=True, kw_only=True)
class PhysicsConfig:
    """A microscope: y ~ Poisson(photons·A x + B) + N(0, σ²), in electrons, x the target with white as 1."""

    __pydantic_config__ = strict

    photons: tuple[float, float] = (2.5, 80.0)
    """Least and most expected electrons above the background where the target is white; drawn for every sample,
    equally often in each octave."""
    white: float = 1.0
    """The value of the targets' files that counts as white; 0 is no light."""
    psf_sigma_px: tuple[float, float] = (1.5, 1.5)
    """Range of σ of a Gaussian point spread, drawn evenly; equal numbers are one point spread."""
    psf: Path | None = None
    """TIFF of the point spread, instead of the Gaussian; see ``hypir psf``."""
    boundary: Boundary = Boundary.reflect
    """How the target goes on beyond the crop; give data.margin_px, so that none of it is seen."""
    background_e: float = 0.5
    """B: expected electrons per pixel that do not come from the target."""
    read_noise_e: float = 0.0
    """σ: deviation of the camera's reading, in electrons."""

    def __post_init__(self) -> None:
        problems = []
        for name in ("photons", "psf_sigma_px"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                problems.append(f"{name} must be two numbers above 0, the lower first, got {[low, high]}")
        if not 0 < self.white < math.inf:
            problems.append(f"white must be above 0, got {self.white}")
        raise_all([*problems, *at_least(self, 0, "background_e", "read_noise_e")])
