"""Phases of a training: which stream of batches has its turn, and where it goes on after a change."""

from __future__ import annotations

from collections.abc import Callable

from ..config import TrainConfig
from ..data.stream import PairStream, Position

OpenStream = Callable[[int, Position], PairStream]
"""(step, where it stands) → the stream of that step's phase."""


def begins_at(config: TrainConfig, step: int) -> bool:
    """Say whether a phase with other data begins at `step`."""
    return step > 0 and config.data_at(step) != config.data_at(step - 1)


def position_at(config: TrainConfig, step: int, position: Position) -> Position:
    """Return where the stream of `step` begins, when that of the step before stands at `position`.

    A position counts the samples of a process, not batches. It is rounded up to whole new batches, so that no process
    sees what another has seen; some samples are passed over.
    """
    if not begins_at(config, step):
        return position
    batch = config.data_at(step).batch_size
    return Position(batches=position.batches, fresh=-(-position.fresh // batch) * batch)
