"""The noise schedule: how much of the picture is left at a timestep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, WeightsError
from ..weights.spec import Prediction


class BetaKind(str, Enum):
    """How β runs from the first timestep to the last."""

    scaled_linear = "scaled_linear"
    """√β runs linearly (Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models",
    arXiv 2112.10752, in its released code): Stable Diffusion."""
    linear = "linear"
    """β runs linearly (Ho et al., "Denoising Diffusion Probabilistic Models", arXiv 2006.11239)."""


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """The β curve of a base model; the defaults are Stable Diffusion's."""

    steps: int = 1000
    """Timesteps of the training, counted from 0."""
    beta_start: float = 0.00085
    beta_end: float = 0.012
    kind: BetaKind = BetaKind.scaled_linear

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.beta_start <= self.beta_end < 1:
            raise ConfigError(
                "a noise schedule needs at least one step and 0 < beta_start ≤ beta_end < 1, got "
                f"{self.steps} steps, beta {self.beta_start} to {self.beta_end}"
            )


def a_bars(schedule: NoiseSchedule) -> Tensor:
    """Return ā_t = Π_{s≤t} (1 − β_s) for every timestep (Ho et al. 2020, section 2).

    Shape [steps], float32 on the CPU; computed in float64.
    """
    ends = (schedule.beta_start, schedule.beta_end)
    if schedule.kind is BetaKind.scaled_linear:
        ends = (ends[0] ** 0.5, ends[1] ** 0.5)
    betas = torch.linspace(*ends, schedule.steps, dtype=torch.float64)
    if schedule.kind is BetaKind.scaled_linear:
        betas = betas.square()
    return (1 - betas).cumprod(0).float()


def a_bar_at(schedule: NoiseSchedule, timestep: int) -> float:
    """Return ā of one timestep; 0.7536917 for Stable Diffusion at 200.

    Raises:
        ConfigError: the schedule has no such timestep.
    """
    if not 0 <= timestep < schedule.steps:
        raise ConfigError(f"a timestep must lie in 0 … {schedule.steps - 1}, got {timestep}")
    return float(a_bars(schedule)[timestep])


def read_schedule(path: Path) -> tuple[NoiseSchedule, Prediction]:
    """Read a diffusers ``scheduler_config.json``: the β curve, and what the UNet was trained to predict.

    Raises:
        WeightsError: the file cannot be read, or describes a schedule that no Stable Diffusion 1 or 2 has.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise WeightsError(f"{path}: expected a scheduler's JSON, cannot read it ({err})") from err
    return schedule_from_config(config, where=path)


def schedule_from_config(config: Mapping[str, Any], *, where: str | Path) -> tuple[NoiseSchedule, Prediction]:
    """Do what `read_schedule` does for the configuration itself; `where` names it in errors."""
    kind, prediction = config.get("beta_schedule", "linear"), config.get("prediction_type", "epsilon")
    predictions = {"epsilon": Prediction.eps, "v_prediction": Prediction.v}
    problems = [
        f"{key} {value!r}"
        for key, value, known in (
            ("beta_schedule", kind, [known.value for known in BetaKind]),
            ("prediction_type", prediction, predictions),
        )
        if value not in known
    ]
    problems += [key for key in ("trained_betas", "rescale_betas_zero_snr") if config.get(key)]
    if problems:
        raise WeightsError(
            f"{where}: expected the schedule of Stable Diffusion (scaled_linear, epsilon), got "
            f"{', '.join(problems)}; give Stable Diffusion 2.1-base"
        )
    schedule = NoiseSchedule(
        steps=int(config.get("num_train_timesteps", 1000)),
        beta_start=float(config.get("beta_start", 0.0001)),
        beta_end=float(config.get("beta_end", 0.02)),
        kind=BetaKind(kind),
    )
    return schedule, predictions[prediction]
