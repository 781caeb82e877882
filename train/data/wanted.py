"""What the generator wants of the data, known from the settings alone: nothing is built."""

from __future__ import annotations

from typing import Any

from hypir_core.models.architectures import ARCHITECTURES

from ..config import PIXEL, GeneratorConfig
from .axes import Scale
from .source import Channels


def scale_of(config: GeneratorConfig) -> Scale:
    """Return high-quality pixels per low-quality pixel: one number, or one for every axis where they differ."""
    stated = _stated(config, "scale")
    if isinstance(stated, (list, tuple)):
        scales = tuple(int(each) for each in stated)
        return scales[0] if len(set(scales)) == 1 else scales
    return stated if isinstance(stated, int) else 1


def dims_of(config: GeneratorConfig) -> int:
    """Return the spatial axes of what it makes: 2 for pictures, 3 for volumes."""
    return _size(config, "dims", 2)


def channels_of(config: GeneratorConfig) -> Channels:
    """Return the channels that it takes and makes; generators without such sizes are for colour."""
    if config.name == PIXEL:
        taken = _size(config, "out_channels", 1)
        return Channels(hq=taken, lq=taken)
    taken = _size(config, "in_channels", 3)
    return Channels(hq=_size(config, "out_channels", taken), lq=taken)


def _size(config: GeneratorConfig, name: str, otherwise: int) -> int:
    """Return a size of the generator: stated, the architecture's own default, or `otherwise`."""
    size = _stated(config, name)
    return size if isinstance(size, int) else otherwise


def _stated(config: GeneratorConfig, name: str) -> Any:
    size = config.options.get(name)
    if size is None and config.name in ARCHITECTURES:
        size = getattr(ARCHITECTURES.get(config.name).Options, name, None)
    return size
