"""Every probability and range of the degradation, as frozen dataclasses read from YAML.

A part that is `None`, or whose `prob` is 0, is off; ``Recipe()`` changes nothing but the rounding to 8 bits.
The two-stage structure and the `realesrgan` numbers follow Real-ESRGAN (Wang et al., 2021, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import build, load_yaml, merge, preset, preset_names, strict
from .checks import Range, check_probability, check_range, check_some, raise_problems
from .parts import Blur, Fade, Halftone, Jpeg, Noise, Resize, ResizeMode, Scratches, Sharpen, Sinc

KIND = "degrade"


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe of a preset name or of a YAML file, with `overrides` merged on top.

    A `Path`, or a text that ends in ``.yaml`` or ``.yml``, is read as a file; anything else is a preset name.

    Raises:
        UnknownNameError: no preset has this name.
        ConfigError: the file cannot be read, or lists every unknown key and wrong value.
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, Path) or path.suffix.lower() in {".yaml", ".yml"}:
        return build(Recipe, merge(load_yaml(path), overrides or {}), where=str(path))
    return preset(Recipe, KIND, name_or_path, overrides)


def recipe_names() -> tuple[str, ...]:
    """Return the names of the built-in recipes, sorted."""
    return preset_names(KIND)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Blur, then resize, then noise, then JPEG; `None` leaves one out."""

    __pydantic_config__ = strict

    blur: Blur | None = None
    resize: Resize | None = None
    noise: Noise | None = None
    jpeg: Jpeg | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The whole degradation, in the order of the fields."""

    __pydantic_config__ = strict

    sharpen: Sharpen | None = None
    halftone: Halftone | None = None
    stage1: Stage = field(default_factory=Stage)
    fade: Fade | None = None
    scratches: Scratches | None = None
    stage2: Stage = field(default_factory=Stage)
    stage2_scale: Range = (1.0, 1.0)
    """The low resolution of the second stage is the original size divided by a number from this range."""
    final_modes: tuple[ResizeMode, ...] = (ResizeMode.area, ResizeMode.bilinear, ResizeMode.bicubic)
    """How the picture is brought to the low resolution."""
    final_sinc: Sinc | None = None
    resize_before_jpeg_prob: float = 0.5
    """Probability of {resize to low resolution, final sinc, JPEG}; otherwise {JPEG, resize, final sinc}."""
    resize_back: bool = True
    """Bring the result back to the original size (bicubic) unless the caller asks for another one."""

    def __post_init__(self):
        raise_problems(
            check_range("stage2_scale", self.stage2_scale, 1, 32),
            check_some("final_modes", self.final_modes),
            check_probability("resize_before_jpeg_prob", self.resize_before_jpeg_prob),
        )
