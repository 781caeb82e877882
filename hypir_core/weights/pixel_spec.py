"""What travels with a diffusion model of pixels: the network, the schedule, and the microscope it learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from .. import config
from ..errors import ConfigError
from ..image.ranges import RangeConfig, RangeKind
from .prediction import Prediction

LIGHT = RangeConfig(kind=RangeKind.percentile, per_channel=False, symmetric=True)
"""The usual range: the picture's darkest and brightest light, but for a thousandth, become -1 and 1."""

Settings = Mapping[str, bool | int | float | str | tuple[int, ...] | tuple[float, ...]]
"""Settings of a component, by the names of its arguments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSpec:
    """A network that denoises pictures step by step, or in one: it counts light in electrons, whatever the file."""

    __pydantic_config__ = config.strict
    kind: ClassVar[str] = "pixel"
    newest: ClassVar[int] = 1

    schema: int = newest
    name: str
    """What a person calls it."""
    architecture: str = "unet"
    """A name in `hypir_core.models.architectures.ARCHITECTURES`."""
    options: Settings = field(default_factory=dict)
    """The architecture's own sizes."""
    channels: int = 1
    """Of a picture."""
    conditional: bool = True
    """Whether the network sees the measurement behind the noised picture (`physics.condition`): two channels more for
    every one. Where it was trained with these left out now and then, zeros there make it a prior of pictures alone."""
    prediction: Prediction = Prediction.v
    schedule: str = "cosine"
    """A name in `diffusion.catalog.SCHEDULERS`."""
    schedule_options: Settings = field(default_factory=dict)
    """The schedule's own numbers; ``num_timesteps`` is one of them."""
    one_step_t: int | None = None
    """Of a network that restores in one step: the timestep as whose noised picture it takes the measurement. None: it
    goes from noise to picture in many."""
    value_range: RangeConfig = LIGHT
    """From electrons above the background to network values, fitted on all of a measurement; black should become -1."""
    background_e: float = 0.0
    """Electrons per pixel that did not come from the pictures it learned from."""
    camera: Mapping[str, float | int] = field(default_factory=dict)
    """Of its measurements, by the fields of `physics.camera.Camera`."""
    psf: tuple[tuple[float, ...], ...] | None = None
    """Rows of the point spread of its measurements, the middle one if there were many; None: there was none."""
    peaks_e: tuple[float, float] | None = None
    """The least and the most light at the brightest place that it learned from, in electrons."""
    components: Mapping[str, str] = field(default_factory=dict)
    """Component, as ``architecture unet``, → the version of it that the file was made with."""
    trained_on: str
    """The data, as a person would cite it."""
    trained_with: str
    """The trainer and its commit."""
    licence: str

    def __post_init__(self) -> None:
        problems = [] if self.channels >= 1 else [f"channels must be 1 or more, got {self.channels}"]
        if not self.background_e >= 0:
            problems.append(f"background_e must be 0 or more, got {self.background_e:g}")
        if self.one_step_t is not None and self.one_step_t < 0:
            problems.append(f"one_step_t must be 0 or more, got {self.one_step_t}")
        if self.value_range.kind in {RangeKind.histogram, RangeKind.custom}:
            problems.append(
                f"value_range must be a straight line, so that light adds up; {self.value_range.kind.value!r} is none"
            )
        if self.peaks_e is not None and not 0 < self.peaks_e[0] <= self.peaks_e[1]:
            problems.append(f"peaks_e must be two numbers above 0, the lower first, got {self.peaks_e}")
        if self.psf is not None and (not self.psf or len({len(row) for row in self.psf}) != 1):
            problems.append("psf must be rows of one length")
        if problems:
            raise ConfigError(problems)

    @property
    def in_channels(self) -> int:
        """Channels that the network takes: the noised picture's, and those of the condition."""
        return self.channels * (3 if self.conditional else 1)
