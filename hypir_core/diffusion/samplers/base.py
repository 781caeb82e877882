"""What every sampler shares: the steps of a run, the contract of one move, and the formula most moves are.

A sampler is a rule from x_t and a clean estimate to x at the next timestep. It keeps nothing: the step says where
in the run it is, and what a multistep rule wants of the past is handed to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ...errors import ConfigError, ShapeError
from ...weights.spec import Prediction
from ..prediction import predict_eps, wide


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a run, from one noise level to a lower one."""

    index: int
    """Which step of the run, counted from 0."""
    of: int
    """How many steps the run has."""
    t: float
    """Timestep that the network is told."""
    a_bar: float
    """ā of x_t, in (0, 1)."""
    a_bar_next: float
    """ā of the result, above `a_bar`; 1 means that the result is the clean estimate itself."""
    a_bar_before: float | None = None
    """ā of x_t one step earlier, below `a_bar`, for multistep solvers; None in the first step."""
    a_bars_earlier: tuple[float, ...] = ()
    """ā of x_t two steps earlier and more, newest first."""


class Sampler(Protocol):
    """A rule for one step. Implementations are frozen dataclasses of their own options."""

    name: ClassVar[str]
    """The name in `SAMPLERS`."""
    history: ClassVar[int]
    """How many estimates of earlier steps `move` wants."""
    remembers: ClassVar[Prediction]
    """Which estimates those are: x0 or ε, after edits; see `remembered`."""

    @property
    def stochastic(self) -> bool:
        """Whether `move` wants noise."""
        ...

    def move(
        self, x: Tensor, x0: Tensor, step: Step, *, noise: Tensor | None, earlier: Sequence[Tensor]
    ) -> Tensor:
        """Return x at the next noise level.

        Args:
            x: x_t = √ā·x0 + √(1 − ā)·ε, [n c …].
            x0: the clean estimate at this step, after edits; the same shape.
            step: where in the run this is.
            noise: standard normal, the same shape. A stochastic sampler needs it in every step that does not
                end on x0; the others do not read it.
            earlier: what `remembered` gave in the steps before, newest first; `history` of them, fewer in the first
                steps. Longer sequences are fine.

        Returns:
            x of the next level in the same parametrisation; float64 for float64, else float32. Not clipped.

        Raises:
            ShapeError: x0, noise or an earlier estimate is not of x's shape.
            ConfigError: noise or an earlier estimate is missing.
        """
        ...


def remembered(sampler: Sampler, x: Tensor, x0: Tensor, step: Step) -> Tensor:
    """Return what `sampler` wants to see of this step in later ones, of x's shape."""
    if sampler.remembers is Prediction.x0:
        return x0
    return predict_eps(x, x0, a_bar=step.a_bar, kind=Prediction.x0)


def plan_steps(
    a_bars: Tensor, timesteps: Sequence[float], *, a_bar_last: float = 1.0, stride: int | None = None
) -> tuple[Step, ...]:
    """Return the steps of a run through `timesteps`.

    Convention: ā of a timestep between two whole ones is read off σ = √((1 − ā)/ā), which is taken to run
    linearly between them, as diffusers' Euler does.

    Args:
        a_bars: ā of every timestep of the training, [train steps]; give float64 (`schedule.a_bars64`).
        timesteps: where the network is asked, falling, each in 0 … train steps − 1.
        a_bar_last: ā of the result. 1 ends on the clean estimate; ``a_bars[0]`` is what diffusers'
            ``set_alpha_to_one: false`` means.
        stride: None: each step ends at the next timestep of the list. A number: it ends at t − stride, also where
            that is not in the list, and below timestep 0 at `a_bar_last`. That is the rule of diffusers' DDIM
            (train steps // steps), and of its DDPM in older releases; the levels of a run then may not join.

    Raises:
        ConfigError: no timesteps, or they do not fall or lie outside the schedule; a stride below 1; a step that
            does not raise ā (an `a_bar_last` below ā of the last timestep) or leads above 1.
    """
    curve = a_bars.double()
    last = len(curve) - 1
    falling = all(t > after for t, after in pairwise(timesteps))
    if len(timesteps) == 0 or not falling or timesteps[0] > last or timesteps[-1] < 0:
        raise ConfigError(f"timesteps must fall and lie in 0 … {last}, got {list(timesteps)}")
    if stride is not None and stride < 1:
        raise ConfigError(f"stride must be 1 or more, got {stride}")
    levels = [_level(curve, t) for t in timesteps]
    if stride is None:
        ends = [*levels[1:], a_bar_last]
    else:
        ends = [_level(curve, t - stride) if t >= stride else a_bar_last for t in timesteps]
    for t, level, end in zip(timesteps, levels, ends, strict=True):
        if not 0 < level < end <= 1:
            raise ConfigError(
                f"the step from timestep {t} must raise ā, between 0 and 1, got {level:.6g} to {end:.6g}; "
                "check the schedule and a_bar_last"
            )
    return tuple(
        Step(
            index=i,
            of=len(levels),
            t=t,
            a_bar=levels[i],
            a_bar_next=ends[i],
            a_bar_before=levels[i - 1] if i else None,
            a_bars_earlier=tuple(levels[: max(i - 1, 0)][::-1]),
        )
        for i, t in enumerate(timesteps)
    )


def renoise(
    x: Tensor, x0: Tensor, step: Step, *, std: float, noise: Tensor | None, noise_scale: float = 1.0
) -> Tensor:
    """Return √ā'·x0 + √(1 − ā' − s²)·ε + s·z, where ε is the noise of x_t under the estimate x0 and z is new.

    Song, Meng and Ermon, "Denoising Diffusion Implicit Models", arXiv 2010.02502, eq. 12. Every first-order
    sampler of this room is this formula with its own s: 0 is the deterministic step, `posterior_std` the
    ancestral one. A step that ends on x0 returns it bit for bit and reads no noise.

    Args:
        x: x_t, [n c …].
        x0: the clean estimate, the same shape.
        step: gives ā and ā'.
        std: s, 0 to `posterior_std(step)`.
        noise: z, the same shape; may be None where s·noise_scale is 0.
        noise_scale: z is multiplied by it; 1 keeps the variance of the result at 1 − ā'.
    """
    require_shape(x, x0=x0)
    x, x0 = wide(x), wide(x0)
    if step.a_bar_next == 1:
        return x0
    eps = predict_eps(x, x0, a_bar=step.a_bar, kind=Prediction.x0)
    kept = math.sqrt(max(1 - step.a_bar_next - std**2, 0.0))
    moved = step.a_bar_next**0.5 * x0 + kept * eps
    if std * noise_scale == 0:
        return moved
    if noise is None:
        raise ConfigError(f"step {step.index + 1} of {step.of} draws at random: give it noise of x's shape")
    require_shape(x, noise=noise)
    return moved + std * noise_scale * wide(noise)


def posterior_std(step: Step) -> float:
    """Return the standard deviation of q(x' | x_t, x0): √((1 − ā')/(1 − ā)·(1 − ā/ā')).

    Ho et al., arXiv 2006.11239, eq. 7, for neighbouring timesteps; for any two, Song, Meng and Ermon, eq. 16
    with η = 1.
    """
    after, now = step.a_bar_next, step.a_bar
    return math.sqrt((1 - after) / (1 - now) * (1 - now / after))


def require_shape(x: Tensor, **others: Tensor) -> None:
    """Raise a ShapeError unless every tensor in `others` is of the shape of `x`."""
    for name, tensor in others.items():
        if tensor.shape != x.shape:
            raise ShapeError(f"{name} must be of x's shape {list(x.shape)}, got {list(tensor.shape)}")


def require_01(**options: float) -> None:
    """Raise a ConfigError unless every option lies in [0, 1]."""
    wrong = [
        f"{name} must lie in 0 … 1, got {value}" for name, value in options.items() if not 0 <= value <= 1
    ]
    if wrong:
        raise ConfigError(wrong)


def _level(curve: Tensor, t: float) -> float:
    below = math.floor(t)
    if t == below:
        return float(curve[below])
    sigmas = ((1 - curve[below : below + 2]) / curve[below : below + 2]).sqrt()
    sigma = float(torch.lerp(sigmas[0], sigmas[1], t - below))
    return 1 / (1 + sigma**2)
