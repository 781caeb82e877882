"""What a condition picture is, and what the user says about how it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..config import strict
from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ConditionSettings:
    """How condition pictures are made."""

    __pydantic_config__ = strict

    edge_low: float = 0.4
    """0 to 1: a line that touches a strong edge goes on down to this steepness (Sobel sum; a step from black to white
    has 4)."""
    edge_high: float = 0.8
    """0 to 1: edges steeper than this are lines."""
    depth_model: str | None = None
    """A depth-estimation model of transformers: a folder, or a repository id in the Hugging Face cache; None looks for
    Depth Anything V2 Small there."""

    def __post_init__(self) -> None:
        if not 0 < self.edge_low <= self.edge_high <= 1:
            raise ConfigError(
                f"edge thresholds must be 0 < edge_low ≤ edge_high ≤ 1, got {self.edge_low:g} and {self.edge_high:g}"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class ConditionPicture:
    """A picture for a ControlNet."""

    picture_01: Tensor
    """[b 3 h w] in [0,1], float32."""
    notes: tuple[str, ...] = ()
    """What the user should know about it."""


Make = Callable[[Tensor, tuple[int, int]], ConditionPicture]
"""(picture [b 1|3 h w] in [0,1], size of the condition picture (height, width)) → the condition picture."""
