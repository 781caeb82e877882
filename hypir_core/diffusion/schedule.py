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
from . import curves


class BetaKind(str, Enum):
    """How β runs from the first timestep to the last."""

    scaled_linear = "scaled_linear"
    """√β runs linearly (Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models",
    arXiv 2112.10752, in its released code): Stable Diffusion."""
    linear = "linear"
    """β runs linearly (Ho et al., "Denoising Diffusion Probabilistic Models", arXiv 2006.11239)."""
    cosine = "cosine"
    """ā follows a squared cosine (Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models",
    arXiv 2102.09672, eq. 17). It has no ends to choose: `beta_start` and `beta_end` are not read."""


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """The β curve of a base model; the defaults are Stable Diffusion's."""

    steps: int = 1000
    """Timesteps of the training, counted from 0."""
    beta_start: float = 0.00085
    beta_end: float = 0.012
    kind: BetaKind = BetaKind.scaled_linear
    trained_betas: tuple[float, ...] | None = None
    """Every β itself, one for each timestep. Where given, `kind`, `beta_start` and `beta_end` are not read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", BetaKind(self.kind))
        if self.trained_betas is not None:
            object.__setattr__(self, "trained_betas", tuple(self.trained_betas))
        if self.steps < 1 or not 0 < self.beta_start <= self.beta_end < 1:
            raise ConfigError(
                "a noise schedule needs at least one step and 0 < beta_start ≤ beta_end < 1, got "
                f"{self.steps} steps, beta {self.beta_start} to {self.beta_end}"
            )
        if self.trained_betas is None:
            return
        if len(self.trained_betas) != self.steps:
            raise ConfigError(
                f"trained_betas needs one beta for each of the {self.steps} timesteps, "
                f"got {len(self.trained_betas)}"
            )
        wrong = [(t, beta) for t, beta in enumerate(self.trained_betas) if not 0 < beta < 1]
        if wrong:
            raise ConfigError(
                f"every beta of trained_betas must lie between 0 and 1, got {wrong[0][1]} at timestep {wrong[0][0]}"
            )


def a_bars64(schedule: NoiseSchedule) -> Tensor:
    """Return ā_t = Π_{s≤t} (1 − β_s) for every timestep (Ho et al. 2020, section 2).

    Shape [steps], float64 on the CPU, in (0, 1), falling. Samplers read this one: 1 − ā of a float32 ā near 1
    keeps three or four digits only.
    """
    return (1 - _betas(schedule)).cumprod(0)


def a_bars(schedule: NoiseSchedule) -> Tensor:
    """Return `a_bars64` rounded to float32: shape [steps], on the CPU."""
    return a_bars64(schedule).float()


def a_bar_at(schedule: NoiseSchedule, timestep: int) -> float:
    """Return ā of one timestep, rounded to float32; 0.7536917 for Stable Diffusion at 200.

    Raises:
        ConfigError: the schedule has no such timestep.
    """
    if not 0 <= timestep < schedule.steps:
        raise ConfigError(f"a timestep must lie in 0 … {schedule.steps - 1}, got {timestep}")
    return float(a_bars(schedule)[timestep])


def read_schedule(path: Path) -> tuple[NoiseSchedule, Prediction]:
    """Read a diffusers ``scheduler_config.json``: the β curve, and what the UNet was trained to predict.

    Raises:
        WeightsError: the file cannot be read, or describes a schedule that is not known here.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise WeightsError(f"{path}: expected a scheduler's JSON, cannot read it ({err})") from err
    if not isinstance(config, dict):
        raise WeightsError(
            f"{path}: expected a scheduler's JSON, cannot read it (it holds a {type(config).__name__}, no object)"
        )
    return schedule_from_config(config, where=path)


def schedule_from_config(config: Mapping[str, Any], *, where: str | Path) -> tuple[NoiseSchedule, Prediction]:
    """Do what `read_schedule` does for the configuration itself; `where` names it in errors."""
    kind, prediction = config.get("beta_schedule", "linear"), config.get("prediction_type", "epsilon")
    problems = [
        f"{key} {value!r}"
        for key, value, known in (
            ("beta_schedule", kind, _DIFFUSERS_KINDS),
            ("prediction_type", prediction, _DIFFUSERS_PREDICTIONS),
        )
        if value not in known
    ]
    if config.get("rescale_betas_zero_snr"):
        problems.append("rescale_betas_zero_snr")
    if problems:
        raise WeightsError(
            f"{where}: expected a beta_schedule of {', '.join(_DIFFUSERS_KINDS)} and a prediction_type of "
            f"{', '.join(_DIFFUSERS_PREDICTIONS)}, got {', '.join(problems)}; "
            "give a base model such as Stable Diffusion 2.1-base"
        )
    try:
        betas = config.get("trained_betas")
        betas = None if betas is None else tuple(float(beta) for beta in betas)
        schedule = NoiseSchedule(
            steps=int(config.get("num_train_timesteps", len(betas or range(1000)))),
            beta_start=float(config.get("beta_start", 0.0001)),
            beta_end=float(config.get("beta_end", 0.02)),
            kind=_DIFFUSERS_KINDS[kind],
            trained_betas=betas,
        )
    except (ValueError, TypeError) as err:
        raise WeightsError(f"{where}: {err}; get the file again") from err
    return schedule, _DIFFUSERS_PREDICTIONS[prediction]


_DIFFUSERS_KINDS = {
    "scaled_linear": BetaKind.scaled_linear,
    "linear": BetaKind.linear,
    "squaredcos_cap_v2": BetaKind.cosine,
}

_DIFFUSERS_PREDICTIONS = {"epsilon": Prediction.eps, "v_prediction": Prediction.v, "sample": Prediction.x0}


def _betas(schedule: NoiseSchedule) -> Tensor:
    if schedule.trained_betas is not None:
        return torch.tensor(schedule.trained_betas, dtype=torch.float64)
    if schedule.kind is BetaKind.cosine:
        return curves.cosine(schedule.steps)
    curve = curves.scaled_linear if schedule.kind is BetaKind.scaled_linear else curves.linear
    return curve(schedule.steps, start=schedule.beta_start, end=schedule.beta_end)
