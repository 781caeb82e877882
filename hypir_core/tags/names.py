"""The names that a tagger knows, and from which probability on each is believed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import ConfigError

RAM_TAGS = Path(__file__).with_name("names.tsv")
"""RAM's 4585 names and thresholds (Recognize Anything, Apache-2.0), in the order of its labels."""

_FILES = (("tag_list.txt", "thresholds.txt"), ("ram_tag_list.txt", "ram_tag_list_threshold.txt"))
"""What the two files of another list are called: one name and one number a line."""

NEVER = 1.0
"""A tag with this threshold is never chosen: those who trained RAM found it unsure."""


@dataclass(frozen=True, kw_only=True)
class TagList:
    """Names and thresholds, in the order of a tagger's labels."""

    names: tuple[str, ...]
    thresholds: tuple[float, ...]
    """0 to 1, one for each name; a tag is there if its probability is above."""
    found_in: str
    """For errors."""

    def __post_init__(self) -> None:
        problems = []
        if len(self.names) != len(self.thresholds):
            problems.append(
                f"{self.found_in}: expected one threshold for each of {len(self.names)} tags, "
                f"got {len(self.thresholds)}"
            )
        outside = [number for number in self.thresholds if not 0 <= number <= 1]
        if outside:
            problems.append(f"{self.found_in}: thresholds must be from 0 to 1, got {outside[0]:g}")
        if not all(name.strip() for name in self.names):
            problems.append(f"{self.found_in}: expected a name in every line, got an empty one")
        if problems:
            raise ConfigError(problems)


@lru_cache(maxsize=1)
def ram_tags() -> TagList:
    """Return RAM's list."""
    rows = [line.split("\t") for line in RAM_TAGS.read_text(encoding="utf-8").splitlines()]
    return TagList(
        names=tuple(name for name, _ in rows),
        thresholds=tuple(float(number) for _, number in rows),
        found_in="RAM's tags",
    )


def read_tag_list(folder: Path) -> TagList:
    """Read the list of another tagger: a folder with ``tag_list.txt`` and ``thresholds.txt``.

    Raises:
        ConfigError: a file is not there or cannot be read, or the two do not go together.
    """
    for names, thresholds in _FILES:
        if (folder / names).is_file():
            lines = _lines(folder / names)
            numbers = [_number(line, folder / thresholds) for line in _lines(folder / thresholds)]
            return TagList(names=tuple(lines), thresholds=tuple(numbers), found_in=str(folder))
    raise ConfigError(
        f"{folder}: expected a folder with tag_list.txt and thresholds.txt, one line for each tag"
    )


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(
            f"{path}: cannot be read as text ({getattr(err, 'strerror', None) or err})"
        ) from err


def _number(line: str, path: Path) -> float:
    try:
        return float(line)
    except ValueError as err:
        raise ConfigError(f"{path}: expected one number a line, got {line!r}") from err
