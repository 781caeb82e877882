"""Settings of the feed-forward engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...color.mode import ColorFix
from ...config import strict


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


@dataclass(frozen=True, kw_only=True)
class UpscalerOptions:
    """Settings of `upscaler`."""

    __pydantic_config__ = strict

    weights: Path
    """A super-resolution model file: one exported by `train`, or any that spandrel reads."""
