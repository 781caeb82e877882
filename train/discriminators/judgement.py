"""What a discriminator says of a batch of images."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from hypir_core.errors import ShapeError
from hypir_core.models.architectures.nd import AXES

from ..config.checks import at_least

SLOPE = 0.2
"""Of the leaky rectifiers."""

Logits = list[Tensor]
"""One tensor of logits per level of the discriminator, each [b …]; above 0 means real."""


class Judgement(NamedTuple):
    """The answer of every discriminator's `forward`."""

    logits: Logits
    features: list[Tensor]
    """What its layers saw, each [b c *cells] or [b c]; empty unless asked for."""


def size_problems(options: Any, *names: str) -> list[str]:
    """Return one complaint for each named size below 1, and for channels and axes that cannot be."""
    names = names if options.in_channels is None else ("in_channels", *names)
    problems = at_least(options, 1, *names)
    if options.dims not in AXES:
        problems.append(f"dims must be {' or '.join(map(str, AXES))}, got {options.dims}")
    return problems


def check_least(image: Tensor, least_px: int, *, name: str, option: str) -> None:
    """Refuse crops that a discriminator leaves nothing of.

    Raises:
        ShapeError: names the settings to change.
    """
    if min(image.shape[2:]) < least_px:
        raise ShapeError(
            f"{name} discriminator: expected at least {least_px} px a side, got {tuple(image.shape[2:])}; raise "
            f"data.crop_px, or lower its {option}"
        )
