"""What an engine may be besides: told of a whole scene, or able to say what its results are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from ..image.histogram import Statistics
from ..image.ranges import RangeConfig
from ..physics.explained import Explained
from .base import Engine


@runtime_checkable
class OfScene(Protocol):
    """An engine that is told of a whole scene before its first plane, so that all planes are treated alike."""

    def of_scene(self, white: float, statistics: Callable[[], Statistics]) -> Engine:
        """Return the engine for one scene.

        Args:
            white: the file's number that reads as 1; 1 where numbers come as they are (`EngineSpec.file_values`).
            statistics: reads the scene once; of all values as the engine will see them, channels taken as one.
        """
        ...


@runtime_checkable
class SaysItsRange(Protocol):
    """An engine whose results may have another range than its input."""

    @property
    def out_range(self) -> RangeConfig | None:
        """Range of the results; None: that of the input, with its numbers."""
        ...


@runtime_checkable
class Explains(Protocol):
    """An engine that knows how its input came about, and so whether a result explains it."""

    @property
    def margin_px(self) -> int:
        """Surroundings that `explained` wants."""
        ...

    def explained(self, result: Tensor, source: Tensor, rows: slice) -> Explained:
        """Say how well a result explains its input, both [1 c rows columns]; only `rows` count."""
        ...
