"""Networks that are worth training, as YAML: what they are, how they learn and how they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ... import config
from ...errors import ConfigError
from ...image.ranges import RangeConfig
from ...weights.pixel_spec import LIGHT, PixelSpec, Settings
from ...weights.prediction import Prediction
from .network import build_schedule, network_options
from .options import PixelOptions

FOLDER = "pixel"
"""Of the presets."""


@dataclass(frozen=True, kw_only=True)
class NetworkPreset:
    """What `PixelSpec` says of a network."""

    __pydantic_config__ = config.strict

    architecture: str = "unet"
    """A name in `hypir_core.models.architectures.ARCHITECTURES`."""
    options: Settings = field(default_factory=dict)
    """The architecture's own sizes."""
    channels: int = 1
    """Of a picture."""
    conditional: bool = True
    """Whether it sees the measurement."""


@dataclass(frozen=True, kw_only=True)
class TrainingPreset:
    """How it learns."""

    __pydantic_config__ = config.strict

    image_size: int = 256
    """Side of the crops, in pixels."""
    batch: int = 8
    """Crops of a step."""
    learning_rate: float = 1e-4
    """Of the generator."""
    ema_decay: float = 0.999
    """How slowly the average of the weights moves."""
    condition_dropout: float = 0.25
    """0 to 1: how often the measurement is left out, so that one network is a prior too."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Weights of losses on the clean estimate, besides that of the prediction."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be 1 or more, got {getattr(self, name)}"
            for name in ("image_size", "batch")
            if getattr(self, name) < 1
        ]
        if not self.learning_rate > 0:
            problems.append(f"learning_rate must be above 0, got {self.learning_rate:g}")
        problems += [
            f"{name} must lie in 0 … 1, got {getattr(self, name):g}"
            for name in ("ema_decay", "condition_dropout")
            if not 0 <= getattr(self, name) <= 1
        ]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, kw_only=True)
class PixelPreset:
    """One YAML file."""

    __pydantic_config__ = config.strict

    network: NetworkPreset = field(default_factory=NetworkPreset)
    prediction: Prediction = Prediction.v
    """What it learns to predict."""
    schedule: str = "cosine"
    """A name in `diffusion.catalog.SCHEDULERS`."""
    schedule_options: Settings = field(default_factory=dict)
    """The schedule's own numbers."""
    value_range: RangeConfig = LIGHT
    """From electrons above the background to network values."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the engine `pixel` that suit it."""
    training: TrainingPreset = field(default_factory=TrainingPreset)

    def __post_init__(self) -> None:
        self.options(Path("weights"))
        spec = self.spec(name="preset")
        network_options(spec, where="network")
        build_schedule(spec, where="schedule")

    def options(self, weights: Path) -> PixelOptions:
        """Return the engine's settings for weights that were trained by it.

        Raises:
            ConfigError: `sampling` has a key that the engine does not know, or a wrong value.
        """
        return config.build(PixelOptions, {**self.sampling, "weights": weights}, where="sampling")

    def spec(self, *, name: str, **facts: Any) -> PixelSpec:
        """Return the spec of its network.

        Args:
            name: what a person calls it.
            facts: other fields of `PixelSpec`: what it was trained on and with, the licence, the microscope.
        """
        stated = {
            "trained_on": "nothing yet",
            "trained_with": "nothing yet",
            "licence": "not stated",
            **facts,
        }
        network = self.network
        return PixelSpec(
            name=name,
            architecture=network.architecture,
            options=network.options,
            channels=network.channels,
            conditional=network.conditional,
            prediction=self.prediction,
            schedule=self.schedule,
            schedule_options=self.schedule_options,
            value_range=self.value_range,
            **stated,
        )


def pixel_preset(name: str, overrides: Mapping[str, Any] | None = None) -> PixelPreset:
    """Read a preset; `overrides` are laid on top, mapping by mapping.

    Raises:
        UnknownNameError: no such preset.
        ConfigError: lists every key that nobody reads, and every wrong value.
    """
    return config.preset(PixelPreset, FOLDER, name, overrides)
