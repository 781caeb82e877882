"""The names of timestep spacings; free of torch, so that settings can name one at no cost."""

from __future__ import annotations

from enum import Enum


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
