"""Networks that were made for colour look at three channels: those there are, or three that are named."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hypir_core.errors import ConfigError

COLOURS = 3


def three_bands_problem(chosen: Sequence[int] | None, channels: int, *, key: str) -> list[str]:
    """Return why three of so many channels cannot be taken, or nothing; `key` is the option that chooses them."""
    if chosen is None:
        if channels == COLOURS:
            return []
        example = [0, 0, 0] if channels < COLOURS else [2, 1, 0]
        return [
            f"{key}: what sees three colours cannot see the generator's {channels} channels; "
            f"name the three it shall see, for instance {example}"
        ]
    if len(chosen) != COLOURS or not all(0 <= number < channels for number in chosen):
        return [f"{key}: expected three numbers from 0 to {channels - 1}, got {list(chosen)}"]
    return []


def three_bands(image: Tensor, chosen: Sequence[int] | None, *, key: str) -> Tensor:
    """Return the three channels [b 3 h w] of [b c h w] that a network for colour looks at.

    Raises:
        ConfigError: there are other channels than three and none are chosen, or one of them is not there.
    """
    if problems := three_bands_problem(chosen, image.shape[1], key=key):
        raise ConfigError(problems)
    return image if chosen is None else image[:, list(chosen)]
