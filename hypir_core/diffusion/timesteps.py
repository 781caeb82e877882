"""Which timesteps a sampler visits: a few of those that the network was trained on."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..errors import ConfigError
from .spacing import Spacing


def timesteps(
    train_steps: int, steps: int, spacing: Spacing, *, offset: int = 0, whole: bool = True
) -> tuple[float, ...]:
    """Return `steps` timesteps, falling from noise to clean, as diffusers' schedulers choose them.

    Convention: halves are rounded to the even number. DPM-Solver in diffusers counts timestep 0 as the end of
    `leading` and `linspace`: there it visits ``timesteps(train_steps, steps + 1, spacing)[:-1]``.

    Args:
        train_steps: timesteps of the training, as `NoiseSchedule.steps`.
        steps: how many are wanted, 1 to `train_steps`.
        spacing: how they lie.
        offset: added to every timestep of `leading` (Stable Diffusion's own configuration says 1). The other
            spacings have no offset: it is not read.
        whole: False leaves the timesteps of `linspace` unrounded, as the Euler samplers of diffusers do. The
            other spacings are whole numbers anyway.

    Raises:
        ConfigError: more steps than timesteps, or the offset leads past the last timestep.
    """
    spacing = Spacing(spacing)
    if not 1 <= steps <= train_steps:
        raise ConfigError(f"steps must lie in 1 … {train_steps}, the timesteps of the training, got {steps}")
    if spacing is Spacing.leading:
        found = tuple(i * (train_steps // steps) + offset for i in reversed(range(steps)))
        if found[-1] < 0 or found[0] >= train_steps:
            raise ConfigError(
                f"with offset {offset} the {steps} timesteps run from {found[0]} to {found[-1]}, "
                f"they must lie in 0 … {train_steps - 1}; give offset 0"
            )
        return found
    if spacing is Spacing.linspace:
        spread = np.linspace(0, train_steps - 1, steps)[::-1]
        return _whole(spread) if whole else tuple(spread.tolist())
    # numpy's own steps, because halves fall to either side with their last bits. The cut: where rounding puts
    # steps · ratio below train_steps, arange gives one element more.
    down = np.arange(train_steps, 0, -train_steps / steps)[:steps]
    return tuple(t - 1 for t in _whole(down))


def _whole(numbers: np.ndarray) -> tuple[int, ...]:
    return tuple(int(number) for number in numbers.round())


def strided_timesteps(train_steps: int, steps: int) -> tuple[int, ...]:
    """Return every (train_steps // steps)-th timestep and the last one, falling: up to one more than `steps`, or two.

    The choice of early DDIM code; it visits both ends whatever `steps` is.

    Raises:
        ConfigError: more steps than timesteps.
    """
    if not 1 <= steps <= train_steps:
        raise ConfigError(f"steps must lie in 1 … {train_steps}, the timesteps of the training, got {steps}")
    return tuple(sorted({*range(0, train_steps, train_steps // steps), train_steps - 1}, reverse=True))


def karras_sigmas(steps: int, *, sigma_min: float, sigma_max: float, rho: float = 7.0) -> tuple[float, ...]:
    """Return noise levels σ, falling from `sigma_max` to `sigma_min`, denser near the end.

    Karras et al., arXiv 2206.00364, eq. 5, without the 0 at the end.

    Raises:
        ConfigError: no steps, or the levels do not fall.
    """
    if steps < 1 or not 0 < sigma_min < sigma_max or rho <= 0:
        raise ConfigError(
            "noise levels need 1 step or more, 0 < sigma_min < sigma_max and rho above 0, got "
            f"{steps} steps, {sigma_min:g} to {sigma_max:g}, rho {rho:g}"
        )
    roots = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), steps)
    return tuple((roots**rho).tolist())


def karras_timesteps(
    a_bars: Tensor, steps: int, *, sigma_max: float = 80.0, rho: float = 7.0
) -> tuple[float, ...]:
    """Return the timesteps, in general between whole ones, whose noise levels are `karras_sigmas`.

    The levels run from the lower of `sigma_max` and the schedule's highest down to its lowest. The cap is for
    cosine schedules: theirs is 2·10⁴, where a step would be spent on hardly any change.

    Args:
        a_bars: ā of every timestep, [train steps].
        steps: how many are wanted.
        sigma_max: the cap.
        rho: ρ of eq. 5.

    Raises:
        ConfigError: as `karras_sigmas`.
    """
    curve = a_bars.double().numpy()
    levels = np.sqrt((1 - curve) / curve)
    wanted = karras_sigmas(
        steps, sigma_min=float(levels[0]), sigma_max=min(sigma_max, float(levels[-1])), rho=rho
    )
    return tuple(np.interp(wanted, levels, np.arange(len(levels))).tolist())
