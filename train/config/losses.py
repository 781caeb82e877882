"""The losses between images, and the networks that some of them look through."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hypir_core.config import strict
from hypir_core.errors import ConfigError

from ..ramps import Ramp
from .checks import raise_all

VGG_CONVOLUTIONS = (2, 2, 4, 4, 4)
"""Convolutions in each of the five blocks of VGG19 (Simonyan and Zisserman, arXiv 1409.1556, configuration E)."""


class Domain(str, Enum):
    """The units in which a loss compares."""

    net = "net"
    """what the network gives: z-scores where its range is one"""
    unit = "unit"
    """black is 0, white is 1"""
    pm1 = "pm1"
    """black is -1, white is 1"""
    file = "file"
    """the values of the files: reflectances, Hounsfield units, counts"""


class Distance(str, Enum):
    """How features are compared."""

    l1 = "l1"
    l2 = "l2"


class LpipsNet(str, Enum):
    """Whose features LPIPS compares."""

    alex = "alex"
    vgg = "vgg"


@dataclass(frozen=True, kw_only=True)
class LpipsConfig:
    """Which LPIPS, as a loss and in validation."""

    __pydantic_config__ = strict

    net: LpipsNet = LpipsNet.vgg
    backbone: Path | None = None
    """torchvision's weight file of that network; without it torchvision's own copy is used, or downloaded."""
    channels: tuple[int, int, int] | None = None
    """Which three of the generator's channels it sees as red, green and blue; must be said for bands."""
    pretrained: bool = True
    """False: a random backbone, for tests without the file. Its distances are not LPIPS."""


@dataclass(frozen=True, kw_only=True)
class Vgg19Config:
    """Which features of VGG19 are compared."""

    __pydantic_config__ = strict

    layers: Mapping[str, float] = field(default_factory=lambda: {"5_4": 1.0})
    """Weight by layer: "i_j" is the j-th convolution of the i-th block, after its ReLU."""
    distance: Distance = Distance.l2
    imagenet: bool = True
    """Subtract ImageNet's mean and divide by its deviation first, as the network was trained."""
    weights: Path | None = None
    """torchvision's weight file of VGG19; without it torchvision's own copy is used if it is on this machine."""
    channels: tuple[int, int, int] | None = None
    """Which three of the generator's channels it sees as red, green and blue; must be said for bands."""
    pretrained: bool = True
    """False: random weights, for tests without the file."""

    def __post_init__(self) -> None:
        known = [f"{i}_{j}" for i, count in enumerate(VGG_CONVOLUTIONS, 1) for j in range(1, count + 1)]
        problems = [
            f"layers: expected names from 1_1 to 5_4, got {name!r}; known: {', '.join(known)}"
            for name in self.layers
            if name not in known
        ]
        problems += [
            f"layers.{name} must be above 0, got {weight}"
            for name, weight in self.layers.items()
            if not 0 < weight < math.inf
        ]
        raise_all(problems if self.layers else ["layers must name at least one layer, for instance 5_4"])


@dataclass(frozen=True, kw_only=True)
class ExtractorConfig:
    """Features of somebody else's making, which are compared."""

    __pydantic_config__ = strict

    target: str
    """``package.module:name``: a module or function of [b c *spatial] that returns features, or a class of such."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the class or function."""
    distance: Distance = Distance.l1


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """One term of the generator's loss."""

    __pydantic_config__ = strict

    weight: float = 1.0
    kind: str | None = None
    """A name in `train.losses.LOSSES` or a Python path; None: the entry's own name. It lets one loss stand twice."""
    ramp: Ramp = field(default_factory=Ramp)
    domain: Domain | None = None
    """In which units it compares; None: those that the loss is meant for."""
    bands: tuple[int, ...] | tuple[tuple[int, ...], ...] | None = None
    """Channels it sees, in this order and also repeated; or several such lists, whose mean is taken. None: all."""
    slices: tuple[int, ...] = ()
    """Volumes only: it sees planes across these axes (0 z, 1 y, 2 x), and their mean is taken."""
    masked: bool = True
    """Leave out what the data set marks as not valid."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the loss, for instance eps for charbonnier, or those of `LpipsConfig` for lpips."""

    def __post_init__(self) -> None:
        problems = (
            [f"slices must be different axes from 0 to 2, got {list(self.slices)}"]
            if len({*self.slices}) < len(self.slices) or not {*self.slices} <= {0, 1, 2}
            else []
        )
        if self.bands is not None and not (self.bands and all(self.groups)):
            problems.append("bands must name at least one channel, or be null for all")
        if any(number < 0 for group in self.groups for number in group):
            problems.append(f"bands count from 0, got {self.bands}")
        if problems:
            raise ConfigError(problems)

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The lists of channels it sees one after the other; none: all at once."""
        if not self.bands:
            return ()
        plain = [each for each in self.bands if isinstance(each, int)]
        return (tuple(plain),) if plain else tuple(each for each in self.bands if not isinstance(each, int))
