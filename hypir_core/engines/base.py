"""What every engine is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ..color.mode import ColorFix
from ..request import Request, Tag
from ..tiling.geometry import Readable
from ..tiling.stage import Stage


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """The one truth about a loaded engine: reports, the metadata of pictures and the resume key come from here."""

    name: str
    """Name in the catalog."""
    weights: str
    """File name and short hash of the weights in use."""
    dtype: str = "float32"
    """Number format of the networks; tiles are blended in float32 whatever it is."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Every option of the engine that the result depends on, as it was resolved; what JSON can hold."""
    in_channels: int = 3
    out_channels: int = 3
    bands: tuple[str, ...] = ()
    """Names of the channels that it takes, in their order; empty where nobody named them."""
    axes: int = 2
    """Spatial axes: 2 for pictures, 3 for volumes."""
    default_scale: float = 4.0
    """Used when the request names no size."""
    color_fix: ColorFix = ColorFix.none
    """Used when the request names none."""
    dtypes: tuple[str, ...] = ("float32",)
    """Formats that were tested."""
    wants_prompt: bool = False
    restores_alpha: bool = False
    """Whether an alpha channel may go through the engine as a grey picture; otherwise it is resized."""
    one_by_one: bool = False
    """Whether the pictures of a batch go through the engine one after the other, each with a condition of its own."""
    streams: bool = False
    """Whether a picture may go through the engine box by box, so that neither input nor result is ever whole."""
    networks_bytes: Mapping[str, int] = field(default_factory=dict)
    """Memory of the weights of every network, by name, for reports; empty where nobody counted."""
    file_values: bool = False
    """Whether the networks take the numbers of a file as they are (reflectances in ten thousandths, Hounsfield units)
    rather than [0,1]."""
    licence: str = "unknown"
    notes: tuple[str, ...] = ()
    """What every report of this engine must say about its results."""

    def key(self) -> str:
        """Return a short hash of what the result depends on: name, weights, format and settings."""
        facts = [self.name, self.weights, self.dtype, dict(self.settings)]
        text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


Finish = Callable[[Tensor, ColorFix, Callable[[Tensor], Tensor]], Tensor]
"""(decoded picture [b c h w], not clamped; the colour fix that is asked for; what applies it) → the fixed picture."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """One picture made ready for an engine's first stage."""

    plane: Readable
    """Input of the first stage; its canvas is a multiple of the engine's grain."""
    content_px: tuple[int, ...]
    """Size of the picture on the canvas, from its first corner on; the rest is padding. It is resized to the
    result's size if that differs."""
    reference_01: Tensor | None = None
    """[b c *size], the input at the result's size, where the engine has its own rules for both; None takes the
    input resized to the requested size. Colours and the untouched part of a blend come from it."""
    condition: Any = None
    """What the networks are told besides the plane, made once for the picture."""
    prompt: str | None = None
    """The words that were read, for the report; None says those of the request."""
    tags: tuple[Tag, ...] = ()
    """What the engine saw in the picture, for the report."""
    finish: Finish | None = None
    """Goes around the colour fix, where an engine has its own rules there."""
    last: Callable[[Tensor], Tensor] | None = None
    """The very last change of the finished picture [b c h w] in [0,1], to the size that the engine's own rules give."""
    notes: tuple[str, ...] = ()


class Engine(Protocol):
    """Weights and a spec that turn a request into a row of stages.

    An engine never tiles, blends, moves the canvas or writes files; it only says what happens to one tile.
    """

    @property
    def spec(self) -> EngineSpec:
        """Facts about the engine."""
        ...

    def prepare(self, image: Readable, size_px: tuple[int, ...], request: Request) -> Prepared:
        """Bring a picture [b c *size] in [0,1], at stride 1, onto the engine's canvas for a result of `size_px`."""
        ...

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Return the row of stages; the last one returns [b c *size] in [0,1] at stride 1."""
        ...
