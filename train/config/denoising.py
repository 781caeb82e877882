"""What a diffusion model learns: which noise, which prediction, how it is tried on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypir_core.config import strict
from hypir_core.physics.camera import Camera
from hypir_core.weights.spec import Prediction

from .checks import at_least, raise_all

PIXEL = "pixel"
"""The generator that all of these settings are for. A generator on a base model of latents has that model's schedule and
prediction, and reads `LATENT` only."""

LATENT = (
    "weight",
    "condition_dropout",
    "begins_below",
    "begins_steps",
    "sampler",
    "sampler_options",
    "steps",
)
"""Settings that are read with a generator of latents, too."""


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig:
    """The noise that is learned to be taken away. Saved with the weights, as far as restoring needs it."""

    __pydantic_config__ = strict

    schedule: str = "cosine"
    """A name in `hypir_core.components.SCHEDULER_REGISTRY`."""
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    """Its keywords, for instance num_timesteps."""
    prediction: Prediction = Prediction.v
    """What the network predicts: eps, v, x0 or the difference x_t − x0."""
    weight: float = 1.0
    """Of the mean squared error of that prediction, beside `losses`, which compare the clean estimate."""
    condition_dropout: float = 0.25
    """How often the measurement is left out, so that one network is also a prior of pictures alone; for seesr, how often
    the words are, which a cfg above 1 lives on."""
    begins_below: float = 1.0
    """At first only timesteps below this share of all are drawn; it grows evenly to 1 over `begins_steps`."""
    begins_steps: int = 0
    one_step_t: int | None = None
    """Restore in one step: the measurement is taken for the noised picture of this timestep. For task: gan."""
    camera: Camera = field(default_factory=Camera)
    """Of given pairs: what turns their numbers into electrons."""
    sampler: str = "ddim"
    """What validation restores with: a name in `SAMPLER_REGISTRY`, with its own options."""
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of that sampler, for instance eta."""
    steps: int = 20
    """Of that sampler."""
    guide: bool = False
    """Validation also moves every clean estimate towards the measurement (`physics.guidance`: pkl, multiplicative)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prediction", Prediction(self.prediction))
        problems = [
            *at_least(self, 0, "weight", "begins_steps"),
            *at_least(self, 1, "steps"),
        ]
        if not 0 <= self.condition_dropout <= 1:
            problems.append(f"condition_dropout must lie in [0, 1], got {self.condition_dropout}")
        if not 0 < self.begins_below <= 1:
            problems.append(f"begins_below must lie in (0, 1], got {self.begins_below}")
        if self.one_step_t is not None and self.one_step_t < 0:
            problems.append(f"one_step_t must be 0 or more, got {self.one_step_t}")
        raise_all(problems)

    @property
    def sampler_keywords(self) -> dict[str, Any]:
        """What the sampler is made with; an option that is null is left to the sampler."""
        stated = {key: value for key, value in self.sampler_options.items() if value is not None}
        return {"num_steps": self.steps, **stated}


@dataclass(frozen=True, kw_only=True)
class StrategyConfig:
    """A way to train: a curriculum, losses and noise schedules that belong together."""

    __pydantic_config__ = strict

    name: str = "plain"
    """A name in `hypir_core.components.STRATEGY_REGISTRY`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its keywords."""
