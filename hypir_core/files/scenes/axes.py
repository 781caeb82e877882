"""Letters of axes: as people and files write them, and as this package does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConfigError, ImageFileError
from ...tiling.geometry import by
from .grid import SPATIAL

LETTERS = "TZCYX"
"""What a person may write, in the usual order; S (samples of a colour) is read as C."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What whoever opens a scene knows beforehand."""

    bands: tuple[str, ...] = ()
    """Which channels, by name or by number from 1 on; all without."""
    axes: str = ""
    """Letters for the axes of the file's array; empty where the file says them."""
    dataset: str = ""
    """Which array of a file that holds several."""
    dims: int = 2
    """Axes of the network: what is guessed where a file names no axes, depends on it."""
    channels: int = 0
    """Channels of the network; 0: not known."""
    named: tuple[str, ...] = ()
    """Names of these channels, in their order, where the network's weights say them. A scene whose bands have names is
    read in this order if nobody chooses bands."""


def letters(text: str, lengths: Sequence[int], where: object) -> str:
    """Return the letters that a person gave for axes of these lengths, in small ones.

    Raises:
        ConfigError: they do not fit.
    """
    small = text.lower().replace("s", "c")
    problem = None
    if len(small) != len(lengths):
        problem = f"{len(lengths)} letters, for {by(tuple(lengths))}"
    elif set(small) - set(SPATIAL + "c") or len(set(small)) != len(small) or not {"y", "x"} <= set(small):
        problem = f"each of {LETTERS} at most once, Y and X among them"
    if problem:
        raise ConfigError(f"{where}: --axes: expected {problem}; got {text!r}")
    return small


def known_axes(said: str, lengths: Sequence[int], wanted: Wanted, path: Path) -> str:
    """Return the letters of a file that says some: a person's wish comes before it.

    Raises:
        ImageFileError: a letter is unknown, or comes twice, and nobody names another.
        ConfigError: the wish does not fit.
    """
    if wanted.axes:
        return letters(wanted.axes, lengths, path)
    small = said.lower()
    if "s" in small and "c" not in small:
        small = small.replace("s", "c")
    strange = [a for a, n in zip(small, lengths, strict=True) if a not in SPATIAL + "c" and n != 1]
    if strange or len(set(small) - {"1"}) + small.count("1") != len(small):
        raise ImageFileError(
            f"{path}: expected axes out of {LETTERS}, got {said.upper()} of {by(tuple(lengths))}; say what they are "
            f"with --axes, such as {_likely(small)}"
        )
    return "".join(a if a in SPATIAL + "c" else "1" for a in small)


def _likely(said: str) -> str:
    """Return letters for axes of which some are unknown: Z, T or C in their places."""
    known = SPATIAL + "c"
    free = [letter for letter in "ztc" if letter not in said]
    found = "".join(letter if letter in known else free.pop(0) if free else "?" for letter in said)
    return found.upper()


def guessed_axes(lengths: Sequence[int], wanted: Wanted, path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the letters of an array that nobody names, and a note that says so.

    Raises:
        ImageFileError: it has too many axes to guess.
        ConfigError: the wish does not fit.
    """
    if wanted.axes:
        return letters(wanted.axes, lengths, path), ()
    inner = "zyx"[-wanted.dims :]
    more = len(lengths) - wanted.dims
    outer = SPATIAL[: SPATIAL.index(inner[0])]
    found = inner if more == 0 else None
    for at in (0, len(lengths) - 1, 1):
        if found is None and 0 <= more - 1 <= len(outer) and lengths[at] == wanted.channels:
            others = (outer[len(outer) - (more - 1) :] if more > 1 else "") + inner
            found = others[:at] + "c" + others[at:]
    if found is None and 0 < more <= len(outer):
        found = outer[-more:] + inner
    if found is None:
        raise ImageFileError(
            f"{path}: expected an array whose axes are known, got {by(tuple(lengths))}; say what they are with --axes, "
            f"such as {LETTERS[-len(lengths) :]}"
        )
    return found, (f"the file names no axes: {by(tuple(lengths))} is read as {found.upper()} (--axes)",)
