"""What happens on the device when a run ends early: its networks go home, so that what comes next has the memory.

After a run that ended well they stay: the next picture finds them there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, runtime_checkable

from .base import Engine

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


@runtime_checkable
class Leaves(Protocol):
    """An engine whose networks lie on a device and can be sent home; the next run brings them again."""

    def leave(self) -> None:
        """Send every network of the engine to the CPU."""
        ...


@contextmanager
def home_if_cut_short(engine: Engine) -> Iterator[None]:
    """Send the networks of an engine home where the block is cancelled or fails; its error is raised as it was."""
    try:
        yield
    except BaseException:
        leave_device(engine)
        raise


def leaving_when_it_ends_early(
    run: Callable[Concatenate[Engine, P], R],
) -> Callable[Concatenate[Engine, P], R]:
    """Make a run of an engine send the networks home when it is cancelled or fails; its error is raised as it was."""

    @wraps(run)
    def running(engine: Engine, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with home_if_cut_short(engine):
            return run(engine, *args, **kwargs)

    return running


def leave_device(engine: Engine) -> None:
    """Ask an engine to leave, if it can; where even that fails (a broken device), the run's own error says more."""
    if not isinstance(engine, Leaves):
        return
    try:
        engine.leave()
    except RuntimeError:
        log.warning("networks could not be taken off the device", exc_info=True)
