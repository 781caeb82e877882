"""What the generator wants of the data, known from the settings alone: nothing is built."""

from __future__ import annotations

import inspect

from hypir_core.models.architectures import ARCHITECTURES

from ..config import GeneratorConfig
from .source import Channels


def scale_of(config: GeneratorConfig) -> int:
    """Return high-quality pixels per low-quality pixel."""
    return _size(config, "scale", 1)


def channels_of(config: GeneratorConfig) -> Channels:
    """Return the channels that it takes and makes; generators without such sizes are for colour."""
    return Channels(hq=_size(config, "out_channels", 3), lq=_size(config, "in_channels", 3))


def _size(config: GeneratorConfig, name: str, otherwise: int) -> int:
    """Return a size of the generator: stated, the architecture's own default, or `otherwise`."""
    size = config.options.get(name)
    if size is None and config.name in ARCHITECTURES.names():
        parameter = inspect.signature(ARCHITECTURES.get(config.name)).parameters.get(name)
        size = parameter.default if parameter else None
    return size if isinstance(size, int) else otherwise
