"""What a diffusers scheduler file says about sampling: where the steps lie, and where the last one ends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from .timesteps import Spacing


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a base model wants to be sampled."""

    spacing: Spacing | None = None
    """Where the steps lie; None where the file does not say."""
    offset: int = 0
    """Added to every timestep of `Spacing.leading`."""
    ends_clean: bool = True
    """Whether DDIM's last step ends on the clean estimate; else at the noise of timestep 0."""


def read_sampling(path: Path) -> Sampling:
    """Read ``scheduler_config.json``.

    Raises:
        WeightsError: the file cannot be read, or names a spacing that is not known here.
    """
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
        given = config.get("timestep_spacing")
        return Sampling(
            spacing=None if given is None else Spacing(given),
            offset=int(config.get("steps_offset", 0)),
            ends_clean=bool(config.get("set_alpha_to_one", True)),
        )
    except (OSError, ValueError, TypeError, AttributeError) as err:
        raise WeightsError(f"{path}: expected a scheduler's JSON, cannot read it ({err})") from err
