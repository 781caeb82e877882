"""Versions of the components that a file was made with: which still fit, which are noted, which are brought up to date.

A version is ``major`` or ``major.minor``. Another minor version gives nearly the same results, and is noted. Another
major one would not: the file is refused, unless `MIGRATIONS` knows the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import SpecMismatchError


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a file holds of one component."""

    options: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


Migration = Callable[[Stored], Stored]

MIGRATIONS: dict[tuple[str, str, int], Migration] = {}
"""(kind, name, major version of the file) → what makes the next major version of it."""


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """A component as this package wants it."""

    stored: Stored
    notes: tuple[str, ...] = ()


def up_to_date(
    kind: str, name: str, stored: Stored, *, made_with: str | None, here: str, where: str | Path
) -> Migrated:
    """Bring a component of a file to the version that is here.

    Args:
        kind: as ``architecture``.
        name: of the component.
        stored: what the file holds of it.
        made_with: the file's version; None: it states none, which is taken for the one that is here.
        here: this package's version.
        where: names the file in errors.

    Raises:
        SpecMismatchError: another major version that no migration leads from, or no version at all.
    """
    if made_with is None or made_with == here:
        return Migrated(stored=stored)
    component = f"{kind} {name}"
    theirs, ours = (_parts(version, component, where) for version in (made_with, here))
    major, steps = theirs[0], []
    while major < ours[0] and (step := MIGRATIONS.get((kind, name, major))) is not None:
        steps.append(step)
        major += 1
    if major != ours[0]:
        way = (
            "update this package" if theirs[0] > ours[0] else "train it anew, or use the release that made it"
        )
        raise SpecMismatchError(f"{where}: made with {component} version {made_with}, here is {here}; {way}")
    for step in steps:
        stored = step(stored)
    said = f"made with {component} version {made_with}, here is {here}"
    done = "brought up to date" if steps else "results may differ a little"
    return Migrated(stored=stored, notes=(f"{Path(where).name}: {said}: {done}",))


def _parts(version: str, component: str, where: str | Path) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    if not major.isdecimal() or not (minor or "0").isdecimal():
        raise SpecMismatchError(
            f"{where}: the version of {component} must be MAJOR or MAJOR.MINOR, got {version!r}; get the file again"
        )
    return int(major), int(minor or 0)
