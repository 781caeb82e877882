"""Keep the pictures that can be used, and report the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor

from hypir_core.errors import ConfigError

from .pictures import Fit

CHECKERS = 8
"""Headers read at the same time; disks and networks answer several at once."""
SHOWN = 20
"""Left-out pictures that are logged one by one."""

T = TypeVar("T")

log = logging.getLogger(__name__)


def split_usable(
    found: Sequence[T], problem: Callable[[T], str], name: Callable[[T], str]
) -> tuple[list[T], tuple[str, ...]]:
    """Return those without a problem, and one line for each of the others; several are asked at once."""
    with ThreadPoolExecutor(CHECKERS) as pool:
        problems = list(pool.map(problem, found))
    usable = [each for each, reason in zip(found, problems, strict=True) if not reason]
    skipped = (f"{name(each)}: {reason}" for each, reason in zip(found, problems, strict=True) if reason)
    return usable, tuple(skipped)


def report_skipped(skipped: Sequence[str], total: int, *, key: str, damaged: Sequence[str] = ()) -> None:
    """Log what was left out: the first ones by name, and how many in all.

    `damaged` are places that were read in part; they are no pictures and are not counted as such.
    """
    for line in damaged[:SHOWN]:
        log.warning("%s: %s", key, line)
    for line in skipped[:SHOWN]:
        log.warning("%s: skipped %s", key, line)
    if skipped:
        log.warning("%s: %d of %d pictures are left out", key, len(skipped), total)


def nothing_usable(key: str, what: str, skipped: Sequence[str]) -> ConfigError:
    """Return the error for a source without a usable picture."""
    why = f"; the first of {len(skipped)} that were skipped: {skipped[0]}" if skipped else ""
    return ConfigError(f"{key}: {what}{why}")


def sibling(key: str, name: str) -> str:
    """Return the setting `name` of the source that `key` belongs to: data.root → data.source.`name`."""
    return f"{key.removesuffix('root')}source.{name}"


def misfit(fit: Fit, hq: Tensor, lq: Tensor | None) -> str:
    """Return why decoded pictures [c h w] do not fit, or nothing."""
    height, width = hq.shape[-2:]
    if problem := fit.problem(width, height):
        return problem
    return fit.pair_problem(width, height, lq.shape[-1], lq.shape[-2]) if lq is not None else ""
