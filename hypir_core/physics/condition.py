"""What a network is told of a measurement: its numbers with even noise, and how much light there was.

Training and inference call the same functions. The unit is a `Range` from electrons above the background to network
values, one for all of a measurement: tiles and crops never have their own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError
from ..image.histogram import Statistics
from ..image.ranges import Range, RangeConfig, fit
from .data_terms import FLOOR


def light_range(config: RangeConfig, y_e: Tensor, *, background_e: float) -> Range:
    """Return the range of one measurement; fitted kinds look at all of it.

    Args:
        config: which range the network wants.
        y_e: the whole measurement in electrons, [1 c *spatial].
        background_e: what of it does not come from the picture.

    Raises:
        ConfigError: the range is no straight line.
    """
    if not config.needs_scene:
        return straight(config.fixed)
    statistics = Statistics()
    statistics.add(y_e - background_e)
    return straight(fit(config, statistics))


def straight(found: object) -> Range:
    """Return a range that is a line.

    Raises:
        ConfigError: it is another.
    """
    if not isinstance(found, Range):
        raise ConfigError("expected a range that is a straight line, so that light adds up, got another")
    return found


def peak_of(units: Range) -> tuple[float, ...]:
    """Return the electrons above the background that the network sees as 1, one for all channels or one for each."""
    return tuple(m + w for m, w in zip(units.middle, units.width, strict=True))


def condition_of(y_e: Tensor, units: Range, *, background_e: float, read_variance: float = 0.0) -> Tensor:
    """Return what the network is told besides the noised picture.

    Shapes: y [b c *spatial] in electrons, finite → [b 2c *spatial]: first the measurement after the root that makes its
    noise even, 2·√(max(y + ⅜ + σ², 0)) (Murtagh, Starck and Bijaoui, Astron. Astrophys. Suppl. 112, 179, 1995, for
    gain 1), scaled so that nothing is -1 and the peak of the unit is 1; then log10 of that peak less 1, the same for
    all pixels: 10 electrons are 0. Zeros in place of all of it mean that nothing was measured.
    """
    peak = torch.tensor(peak_of(units), dtype=y_e.dtype, device=y_e.device)
    peak = peak.clamp(min=FLOOR).reshape(1, -1, *[1] * (y_e.ndim - 2))
    top = (peak + background_e + 3 / 8 + read_variance).sqrt()
    even = (y_e + 3 / 8 + read_variance).clamp(min=0).sqrt() / top
    light = (peak.log10() - 1).expand_as(y_e)
    return torch.cat([2 * even - 1, light], 1)
