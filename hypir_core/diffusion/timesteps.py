"""Which timesteps a sampler visits: a few of those that the network was trained on."""

from __future__ import annotations

from enum import Enum

import numpy as np

from ..errors import ConfigError


class Spacing(str, Enum):
    """How the visited timesteps lie among all.

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv 2305.08891, table 2.
    """

    trailing = "trailing"
    """From the last timestep down; the first one is not visited. One step starts at pure noise."""
    leading = "leading"
    """From timestep 0 up, so that the last one is not visited: sampling starts below full noise."""
    linspace = "linspace"
    """From the last timestep to timestep 0, both visited. One step is timestep 0 alone."""


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
