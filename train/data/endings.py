"""Which files are pictures, by their ending, and how a name that is not UTF-8 is written down."""

from __future__ import annotations

from pathlib import PurePath

from hypir_core.files.formats import FORMATS

ARRAY = ".npy"
ENDINGS = frozenset(ending for entry in FORMATS for ending in entry.load().extensions)
"""Lower case, with the dot: what `hypir_core` can read."""


def is_picture(name: PurePath) -> bool:
    """Say whether the ending is one of a picture, in upper or lower case."""
    return name.suffix.lower() in ENDINGS


def printable(name: str) -> str:
    """Return `name` as text that any file takes: a byte that is no UTF-8 becomes a backslash and its number."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def endings_listed() -> str:
    """Return the endings for a message."""
    return ", ".join(sorted(ENDINGS))
