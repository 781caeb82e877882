"""Settings of the feed-forward engines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

from ...color.mode import ColorFix
from ...config import strict
from ...errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class BuiltInOptions:
    """The built-in restorer has no settings of its own."""

    __pydantic_config__ = strict

    engine: ClassVar[str] = "built-in"
    file: ClassVar[str] = "restorer_x4.safetensors"
    """In the folder `weights/builtin` of the package."""
    color_fix: ClassVar[ColorFix] = ColorFix.none


@dataclass(frozen=True, kw_only=True)
class BuiltInSharpOptions(BuiltInOptions):
    """Nor has the crisp one."""

    engine: ClassVar[str] = "built-in-sharp"
    file: ClassVar[str] = "restorer_x4_sharp.safetensors"
    color_fix: ClassVar[ColorFix] = ColorFix.wavelet  # a discriminator does not mind a tint of a level or two


class Result(str, Enum):
    """What is made of the pictures that a network draws."""

    sample = "sample"
    """One of them; another seed gives another."""
    mean = "mean"
    """Their mean: what they agree on."""
    deviation = "deviation"
    """Their standard deviation, in the values of the file: how sure the network is of every pixel."""
    both = "both"
    """The mean, and behind it, as channels of their own, the deviation: for files that hold such channels (TIFF)."""


@dataclass(frozen=True, kw_only=True)
class UpscalerOptions:
    """Settings of `upscaler`."""

    __pydantic_config__ = strict

    weights: Path
    """A super-resolution model file: one exported by `train`, or any that spandrel reads."""
    result: Result = Result.sample
    """Of a network that draws (`stochastic`): one picture, or the mean, the standard deviation or both of many."""
    samples: int = 1
    """Pictures that are drawn for a mean or a deviation; each takes as long as one."""

    def __post_init__(self) -> None:
        least = 1 if self.result is Result.sample else 2
        if self.samples < least:
            raise ConfigError(
                f"samples must be {least} or more for the {self.result.value}, got {self.samples}"
            )
        if self.result is Result.sample and self.samples > 1:
            raise ConfigError(
                f"samples: {self.samples} pictures make a mean or a deviation: set result to one of them, or leave "
                "samples at 1 and change the seed to get another picture"
            )


@dataclass(frozen=True, kw_only=True)
class AdcSROptions:
    """Settings of `adcsr`."""

    __pydantic_config__ = strict

    weights: Path
    """AdcSR's network, `net_params_200.pkl`."""
    decoder: Path
    """The light decoder that belongs to it, `halfDecoder.ckpt`."""
