"""Settings of `pixel`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from ...config import strict
from ...errors import ConfigError
from ...physics.choices import Boundary, Rule, Term
from ..feed_forward.options import Result

STEPS = 20
"""Where nobody says how many."""

GUIDED_FROM = 0.8
"""Where guidance begins for a network that sees the measurement: its first estimates are means over all that may be, and
moving those helps the result less than moving what comes of them."""

MOST_SAMPLES = 64


class StepTimes(str, Enum):
    """Which of the training's timesteps are visited."""

    trailing = "trailing"
    """Even steps, the last timestep among them."""
    leading = "leading"
    """Even steps, timestep 0 among them."""
    linspace = "linspace"
    """Even steps, both ends among them."""
    strided = "strided"
    """Every n-th and the last one: a step or two more than asked for."""
    karras = "karras"
    """Denser near the end (arXiv 2206.00364); the highest noise level is capped at 80 times the picture."""


@dataclass(frozen=True, kw_only=True)
class PixelOptions:
    """Settings of `pixel`; what is left out of the microscope is as in the training."""

    __pydantic_config__ = strict

    FLAGS: ClassVar[Mapping[str, str]] = {"bits": "--camera-bits"}
    """Where a flag is not called as its option: `--bits` is the format of a result."""

    TRIED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "guidance": ("pkl",),
        "steps": (10, 20),
        "guidance_strength": (0.0, 0.3, 0.8, 1.5),
    }
    """What `hypir tune` tries; a strength of 0 is no guidance."""

    weights: Path
    """A diffusion model of pixels, as `train` exports it. `built-in` and `built-in-one-step` are in the package."""
    steps: int | None = None
    """Calls of the network; None: 20, or 1 where the weights restore in one step."""
    solver: str = "ddpm"
    """How a step is made: ddpm, ddim, euler, euler_ancestral, dpmpp_2m, lms, pndm. ddpm draws new noise in every step,
    which mends what a network gets wrong; ddim draws none."""
    step_times: StepTimes = StepTimes.trailing
    """Where the steps lie among the training's timesteps."""
    eta: float | None = None
    """0 to 1, for ddim and euler_ancestral: how much of the noise is drawn anew in a step; None: the solver's own."""
    clip: bool = False
    """Cut clean estimates to the range that the network saw: steadier at high noise, but bright points lose light."""
    guidance: Term | None = None
    """Correct every clean estimate by the measurement, by this distance; None leaves it to the network. `pkl` is that of
    photon noise."""
    guidance_rule: Rule = Rule.multiplicative
    """How the estimate is moved."""
    guidance_strength: float = 0.8
    """0 or more: how far."""
    guidance_begins: float | None = None
    """0 to 1: the part of the steps that passes before; the last step is always guided. None: 0.8, or 0 where the
    network does not see the measurement."""
    guidance_repeats: int = 1
    """How often a step is corrected."""
    guidance_floor_e: float = 0.01
    """Electrons to which the estimate is raised first: `multiplicative` cannot make light where there is none."""
    prior: bool = False
    """Do not show the network the measurement: only guidance holds the result to it. For optics that it has not seen."""
    psf: Path | None = None
    """A TIFF of the point spread; None: `psf_sigma_px`, or that of the training."""
    psf_sigma_px: float | None = None
    """A Gaussian point spread of this width; 0 for none."""
    boundary: Boundary = Boundary.reflect
    """How the picture goes on beyond its edges."""
    offset_adu: float | None = None
    """What the camera writes in the dark."""
    gain: float | None = None
    """Numbers of the file per electron; data sheets often give 1 over that."""
    read_noise_e: float | None = None
    """Standard deviation of the reading, in electrons."""
    bits: int | None = None
    """Depth of the camera, which may be less than the file's: its brightest number counts as saturated."""
    white_adu: float = 65535.0
    """The number of the file that reads as white: 65535 of 16 bits, 255 of 8."""
    background_e: float | None = None
    """Electrons per pixel that do not come from the picture."""
    peak_e: float | None = None
    """Light at the brightest place, in electrons, where it is known; None: measured on the picture as weights say."""
    samples: int = 1
    """Pictures that are drawn for a mean or a deviation, 2 or more; time and memory grow alike."""
    result: Result | None = None
    """`sample`, `mean`, `deviation` (how sure every pixel is) or `both`; None: the mean where several are drawn."""
    cascade: tuple[int, ...] = ()
    """Coarse to fine: strides of what is made first, falling powers of two, as 4 and 2; the full size follows."""

    def __post_init__(self) -> None:
        enums: dict[str, Any] = {
            "step_times": StepTimes,
            "guidance": Term,
            "guidance_rule": Rule,
            "boundary": Boundary,
            "result": Result,
        }
        for name, enum in enums.items():  # a word says it as well
            if getattr(self, name) is not None:
                object.__setattr__(self, name, enum(getattr(self, name)))
        problems = [
            f"{name} must be from {low:g} to {high:g}, got {value:g}"
            for name, value, low, high in (
                ("steps", self.steps, 1, 100_000),
                ("eta", self.eta, 0, 1),
                ("guidance_strength", self.guidance_strength, 0, 1000),
                ("guidance_begins", self.guidance_begins, 0, 1),
                ("guidance_repeats", self.guidance_repeats, 1, 100),
                ("guidance_floor_e", self.guidance_floor_e, 0, 1e9),
                ("psf_sigma_px", self.psf_sigma_px, 0, 1000),
                ("background_e", self.background_e, 0, 1e9),
                ("samples", self.samples, 1, MOST_SAMPLES),
            )
            if value is not None and not low <= value <= high
        ]
        problems += [
            f"{name} must be above 0, got {value:g}"
            for name, value in (("white_adu", self.white_adu), ("peak_e", self.peak_e))
            if value is not None and not (value > 0 and math.isfinite(value))
        ]
        problems += [*self._sample_problems(), *self._cascade_problems()]
        if self.psf is not None and self.psf_sigma_px is not None:
            problems.append("psf and psf_sigma_px exclude each other")
        if self.prior and self.guidance is None:
            problems.append(
                "prior without guidance makes a picture of nothing; set guidance=pkl, or leave prior out"
            )
        if problems:
            raise ConfigError(problems)

    @property
    def shown(self) -> Result:
        """What the result is."""
        if self.result is not None:
            return self.result
        return Result.sample if self.samples == 1 else Result.mean

    def _sample_problems(self) -> list[str]:
        if self.shown is not Result.sample and self.samples < 2:
            return [f"samples must be 2 or more for the {self.shown.value}, got {self.samples}"]
        if self.shown is Result.sample and self.samples > 1:
            return [f"samples: {self.samples} pictures make a mean or a deviation: leave result out"]
        return []

    def _cascade_problems(self) -> list[str]:
        powers = all(stride >= 2 and stride & (stride - 1) == 0 for stride in self.cascade)
        if powers and list(self.cascade) == sorted(set(self.cascade), reverse=True):
            return []
        return [f"cascade must be falling powers of two from 2 on, as 4 and 2, got {list(self.cascade)}"]
