"""Debugging: how much is logged, and a look at everything that a run makes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .environment import Environment, read_environment
from .errors import RangeError

if TYPE_CHECKING:
    from torch import Tensor

    from .runtime import Inspect

log = logging.getLogger(__name__)

PACKAGE = __name__.rpartition(".")[0]
"""Name of the logger above all others of this library; ComfyUI loads it under a path."""


def level_of(environment: Environment) -> str | None:
    """Return the level that the environment asks for, if any: what it names, or DEBUG for debugging."""
    return environment.log_level or ("DEBUG" if environment.debug else None)


def set_level() -> None:
    """Let this library log at the environment's level, where the host program shows what is logged."""
    level = level_of(read_environment())
    if level is not None:
        logging.getLogger(PACKAGE).setLevel(level)


@contextmanager
def logged(environment: Environment) -> Iterator[None]:
    """Log at the environment's level while the block runs, on standard error unless somebody set up logging before."""
    level = level_of(environment)
    if level is None:
        yield
        return
    logger = logging.getLogger(PACKAGE)
    before, handler = logger.level, logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    added = not logger.hasHandlers()
    logger.setLevel(level)
    if added:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        if added:
            logger.removeHandler(handler)


def inspector() -> Inspect:
    """Return what a `Runtime` shall look with: at nothing, unless the environment asks for debugging."""
    from .runtime import look_at_nothing

    return inspect if read_environment().debug else look_at_nothing


def inspect(name: str, values: Tensor, seconds: float) -> None:
    """Log the shape, format, place, range and time of what was made.

    Raises:
        RangeError: it holds NaN or infinity; says where that came from and how much of it.
    """
    bad = int((~values.isfinite()).sum())
    shape = "×".join(map(str, values.shape))
    made = f"{name}: {shape} {str(values.dtype).removeprefix('torch.')} on {values.device}"
    if bad:
        raise RangeError(f"{made}: {bad} of {values.numel()} values are NaN or infinite")
    low, high = (float(v) for v in values.aminmax()) if values.numel() else (0.0, 0.0)
    log.debug("%s, %.4g to %.4g, %.3f s", made, low, high, seconds)
