"""Noise schedules by name: the base class for one's own, and the curves that need only their own numbers.

A schedule is the β of every timestep. `NoiseSchedule` is the same thing as engines and weight files hold it;
`BaseScheduler.as_schedule` turns one into the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import ConfigError
from . import curves
from .schedule import NoiseSchedule


class BaseScheduler(ABC):
    """β of every timestep. One's own: call ``super().__init__(num_timesteps)`` and write `get_betas`."""

    num_timesteps: int

    def __init__(self, num_timesteps: int = 1000):
        if isinstance(num_timesteps, bool) or not isinstance(num_timesteps, int) or num_timesteps < 1:
            raise ConfigError(f"num_timesteps must be a whole number of 1 or more, got {num_timesteps!r}")
        self.num_timesteps = num_timesteps

    @abstractmethod
    def get_betas(self) -> Tensor:
        """Return β of every timestep: [num_timesteps], in (0, 1)."""

    def get_schedule_dict(self) -> dict[str, Tensor]:
        """Return what follows from β, each [num_timesteps], in the format of `get_betas`.

        ``betas``, ``alphas`` = 1 − β, ``alphas_cumprod`` = ā, ``alphas_cumprod_prev`` (1 first), their roots, and
        ``posterior_variance`` = β_t·(1 − ā_{t−1})/(1 − ā_t) (Ho et al., arXiv 2006.11239, eq. 7).
        """
        betas = self.get_betas()
        a_bar = (1 - betas).cumprod(0)
        before = torch.cat([torch.ones_like(a_bar[:1]), a_bar[:-1]])
        return {
            "betas": betas,
            "alphas": 1 - betas,
            "alphas_cumprod": a_bar,
            "alphas_cumprod_prev": before,
            "sqrt_alphas_cumprod": a_bar.sqrt(),
            "sqrt_one_minus_alphas_cumprod": (1 - a_bar).sqrt(),
            "posterior_variance": betas * (1 - before) / (1 - a_bar),
        }

    def as_schedule(self) -> NoiseSchedule:
        """Return the schedule as engines and weight files hold it.

        Raises:
            ConfigError: `get_betas` gives another number of β, or one outside (0, 1).
        """
        betas = self.get_betas().double().tolist()
        return NoiseSchedule(steps=self.num_timesteps, trained_betas=tuple(betas))


@dataclass(eq=False)
class Curve(BaseScheduler):
    """Base of the schedules whose settings are dataclass fields."""

    num_timesteps: int = 1000
    """Timesteps of the training."""

    def __post_init__(self) -> None:
        super().__init__(self.num_timesteps)


@dataclass(eq=False)
class Ends(BaseScheduler):
    """Base of the curves from one β to another."""

    num_timesteps: int = 1000
    """Timesteps of the training."""
    beta_start: float = curves.BETA_START
    beta_end: float = curves.BETA_END

    def __post_init__(self) -> None:
        super().__init__(self.num_timesteps)
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ConfigError(
                f"a schedule needs 0 < beta_start ≤ beta_end < 1, got {self.beta_start} to {self.beta_end}"
            )


@dataclass(eq=False)
class LinearScheduler(Ends):
    """See `curves.linear`."""

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return curves.linear(self.num_timesteps, start=self.beta_start, end=self.beta_end)


@dataclass(eq=False)
class ScaledLinearScheduler(Ends):
    """See `curves.scaled_linear`; the ends are Stable Diffusion's."""

    beta_start: float = 0.00085
    beta_end: float = 0.012

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return curves.scaled_linear(self.num_timesteps, start=self.beta_start, end=self.beta_end)


@dataclass(eq=False)
class ExponentialScheduler(Ends):
    """See `curves.exponential`."""

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return curves.exponential(self.num_timesteps, start=self.beta_start, end=self.beta_end)


@dataclass(eq=False)
class PolynomialScheduler(Ends):
    """See `curves.polynomial`."""

    power: float = 2.0

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return curves.polynomial(
            self.num_timesteps, start=self.beta_start, end=self.beta_end, power=self.power
        )


@dataclass(eq=False)
class SigmoidScheduler(Ends):
    """See `curves.sigmoid`."""

    steepness: float = 10.0

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return curves.sigmoid(
            self.num_timesteps, start=self.beta_start, end=self.beta_end, steepness=self.steepness
        )


@dataclass(eq=False)
class CosineScheduler(Curve):
    """See `curves.cosine`."""

    s: float = curves.COSINE_OFFSET
    max_beta: float = curves.COSINE_BETA_MAX

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return curves.cosine(self.num_timesteps, s=self.s, max_beta=self.max_beta)


@dataclass(eq=False)
class ImprovedCosineScheduler(Curve):
    """The cosine with a power of its own: 1 fades more slowly at first than the usual 2."""

    s: float = curves.COSINE_OFFSET
    max_beta: float = 0.9999
    cosine_power: float = 1.0
    offset_factor: float = 0.0
    """Added to the place of every timestep."""

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return curves.cosine(
            self.num_timesteps,
            s=self.s,
            max_beta=self.max_beta,
            power=self.cosine_power,
            shift=self.offset_factor,
        )


@dataclass(eq=False)
class WarmupScheduler(Ends):
    """A base schedule whose first β rise from nearly nothing; see `curves.warmup`."""

    warmup_steps: int = 100
    base_schedule: str = "linear"
    """linear (from `beta_start` to `beta_end`) or cosine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base_schedule not in ("linear", "cosine"):
            raise ConfigError(f"base_schedule must be linear or cosine, got {self.base_schedule!r}")
        if not 1 <= self.warmup_steps <= self.num_timesteps:
            raise ConfigError(
                f"warmup_steps must lie in 1 … {self.num_timesteps}, the timesteps, got {self.warmup_steps}"
            )

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        if self.base_schedule == "cosine":
            base = curves.cosine(self.num_timesteps)
        else:
            base = curves.linear(self.num_timesteps, start=self.beta_start, end=self.beta_end)
        return curves.warmup(base, warmup_steps=self.warmup_steps, start=self.beta_start)


@dataclass(eq=False)
class InterpolatedScheduler(Curve):
    """Straight lines between points of one's own; see `curves.interpolated`."""

    key_points: Mapping[float, float] = field(
        default_factory=lambda: {0.0: curves.BETA_START, 1.0: curves.BETA_END}
    )
    """Place 0 … 1 → β."""

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [f"{u}: {b}" for u, b in self.key_points.items() if not (0 <= u <= 1 and 0 < b < 1)]
        if wrong or not self.key_points:
            raise ConfigError(
                "key_points must lead from places in 0 … 1 to betas between 0 and 1, got "
                + (", ".join(wrong) or "none")
            )

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return curves.interpolated(self.num_timesteps, self.key_points)


@dataclass(eq=False)
class MicroscopyScheduler(Curve):
    """See `curves.microscopy`."""

    preserve_fine_details: bool = True
    edge_enhancement: float = 0.1
    low_intensity_protection: float = 0.05

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return curves.microscopy(
            self.num_timesteps,
            fine_details=self.preserve_fine_details,
            edges=self.edge_enhancement,
            low_intensity=self.low_intensity_protection,
        )


@dataclass(eq=False)
class ConsistencyScheduler(Curve):
    """Noise levels by equal factors, as consistency training draws them (Song et al., arXiv 2303.01469).

    The levels are σ = √((1 − ā)/ā) from `sigma_min` to `sigma_max` over all timesteps; `sigmas` gives the few of the
    distillation.
    """

    consistency_weight: float = 1.0
    """Weight of the consistency loss; for the training, it does not change β."""
    distillation_steps: int = 18
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma_min < self.sigma_max or self.distillation_steps < 1:
            raise ConfigError(
                "consistency needs 0 < sigma_min < sigma_max and 1 step or more, got "
                f"{self.sigma_min} to {self.sigma_max} in {self.distillation_steps}"
            )

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        levels = curves.log_sigmas(self.num_timesteps, sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        return curves.of_sigmas(levels)

    def sigmas(self) -> Tensor:
        """Return the noise levels of the distillation, rising: [distillation_steps], float64."""
        return curves.log_sigmas(self.distillation_steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max)


@dataclass(eq=False)
class DpmSolverScheduler(Ends):
    """Linear β for DPM-Solver++."""

    sampler: ClassVar[str] = "dpmpp_2m"
    """The sampler that goes with it."""
    solver_order: int = 2
    """Only the second order is built."""
    prediction_type: str = "epsilon"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.solver_order not in (1, 2):
            raise ConfigError(f"solver_order must be 1 or 2, got {self.solver_order}")

    def get_betas(self) -> Tensor:
        """See `curves.linear`."""
        return curves.linear(self.num_timesteps, start=self.beta_start, end=self.beta_end)


@dataclass(eq=False)
class EulerScheduler(Ends):
    """Linear β for Euler's rule."""

    sampler: ClassVar[str] = "euler"
    use_karras_sigmas: bool = False

    def get_betas(self) -> Tensor:
        """See `curves.linear`."""
        return curves.linear(self.num_timesteps, start=self.beta_start, end=self.beta_end)


@dataclass(eq=False)
class LmsScheduler(Ends):
    """Linear β for linear multistep."""

    sampler: ClassVar[str] = "lms"
    solver_order: int = 4

    def get_betas(self) -> Tensor:
        """See `curves.linear`."""
        return curves.linear(self.num_timesteps, start=self.beta_start, end=self.beta_end)


@dataclass(eq=False)
class PndmScheduler(Ends):
    """Linear β for PNDM."""

    sampler: ClassVar[str] = "pndm"
    skip_prk_steps: bool = True
    """Only runs without the Runge-Kutta start are built."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.skip_prk_steps:
            raise ConfigError("skip_prk_steps must be true: the Runge-Kutta start is not built")

    def get_betas(self) -> Tensor:
        """See `curves.linear`."""
        return curves.linear(self.num_timesteps, start=self.beta_start, end=self.beta_end)
