"""What every engine is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from ..color.mode import ColorFix
from ..request import Request
from ..tiling.geometry import Plane
from ..tiling.plan import TileConfig
from ..tiling.run import Stage


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """Facts about an engine that a user must not have to retype."""

    name: str
    family: str
    """``feed_forward``, ``one_step``, later ``guided`` and ``pixel``."""
    weights: str
    """File name and short hash of the weights in use."""
    channels: int = 3
    """Colour channels in and out."""
    default_scale: float = 4.0
    """Used when the request names no size."""
    tile: TileConfig = field(default_factory=TileConfig)
    """Used where the request names no tile."""
    color_fix: ColorFix = ColorFix.none
    """Used when the request names none."""
    dtypes: tuple[str, ...] = ("float32",)
    """Formats that were tested."""
    wants_prompt: bool = False
    restores_alpha: bool = False
    """Whether an alpha channel may go through the engine as a grey picture; otherwise it is resized."""
    licence: str = "unknown"
    notes: tuple[str, ...] = ()
    """What every report of this engine must say about its results."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """One picture made ready for an engine's first stage."""

    plane: Plane
    """Input of the first stage; its canvas is a multiple of the engine's grain."""
    content_px: tuple[int, int]
    """Height and width of the picture on the canvas, top left; the rest is padding. It is resized to the
    result's size if that differs."""
    reference_01: Tensor | None = None
    """[b c H W], the input at the result's size, where the engine has its own rules for both; None takes the
    input resized to the requested size. Colours and the untouched part of a blend come from it."""
    notes: tuple[str, ...] = ()


class Engine(Protocol):
    """Weights and a spec that turn a request into a row of stages.

    An engine never tiles, blends, moves the canvas or writes files; it only says what happens to one tile.
    """

    @property
    def spec(self) -> EngineSpec:
        """Facts about the engine."""
        ...

    def prepare(self, image_01: Tensor, size_px: tuple[int, int], request: Request) -> Prepared:
        """Bring a picture [b c h w] in [0,1] onto the engine's canvas for a result of `size_px`."""
        ...

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Return the row of stages; the last one returns [b c H W] in [0,1] at stride 1."""
        ...
