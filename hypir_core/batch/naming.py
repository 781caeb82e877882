"""What results are called: every picture gets a name of its own, decided before the first is made."""

from __future__ import annotations

import os
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np

from ..errors import ConfigError
from ..files.clips.formats import clip_ending, is_clip_path
from ..files.formats import ending_of, is_picture_name, is_picture_path, output_extension
from ..files.scenes.catalog import result_name, scene_ending
from .finding import Found, Pictures
from .shards import Shard

MAX_NAME_BYTES = 255
"""Longest file name of the usual file systems."""

PARENTS = 4
"""How many folders above a picture may lend it their names, to tell it from others."""


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to restore."""

    source: Path
    output: Path
    page: int | None = None
    """Which page or frame of the file, from 0; None for a file of one, or its first."""
    compare: Path | None = None
    """Where a labelled before/after picture goes."""


class Jobs(Sequence[Job]):
    """Jobs by their numbers; each is made when it is asked for, so that a million fit in memory."""

    def __init__(self, numbers: Sequence[int], make: Callable[[int], Job]):
        self._numbers, self._make = numbers, make

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | Sequence[Job]:
        if isinstance(index, slice):
            return Jobs(self._numbers[index], self._make)
        return self._make(self._numbers[index])


class Sources:
    """The inputs of jobs, one after the other, as often as they are asked for."""

    def __init__(self, jobs: Sequence[Job]):
        self._jobs = jobs

    def __iter__(self) -> Iterator[Path]:
        return (job.source for job in self._jobs)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The jobs of a run. No two of their files have one name."""

    jobs: Sequence[Job]
    is_folder: bool
    """Whether the output is a folder."""

    def part(self, shard: Shard, out: Path) -> Plan:
        """Return the plan of one shard; names are those of the whole run.

        Raises:
            ConfigError: the output is one file.
        """
        if shard.count == 1:
            return self
        if not self.is_folder:
            raise ConfigError("--shard needs several inputs and an output folder, got one file")
        before = len(str(out / "x")) - 1
        some = array("Q", (i for i, job in enumerate(self.jobs) if shard.holds(str(job.output)[before:])))
        return replace(self, jobs=Jobs(some, self.jobs.__getitem__))


def name_outputs(
    found: Sequence[Found], out: Path, *, format_name: str | None, several: bool, compare: Path | None = None
) -> Plan:
    """Name the results.

    Args:
        found: the pictures.
        out: a file if there is one picture and the name has an extension, otherwise a folder.
        format_name: the format to write; by default the input's own (PNG where that cannot be written).
        several: whether the inputs could be several pictures: a folder, a pattern, or more than one.
        compare: where before/after pictures go: a file, or a folder if `out` is one.

    Raises:
        ConfigError: a file was named for several inputs, or results and before/after pictures would overwrite each
            other.
    """
    there = os.path.isdir(out)  # noqa: PTH112  # `is_dir` raises where a name is too long
    is_store = there and not several and scene_ending(out) is not None  # a Zarr store that may be overwritten
    is_folder = several or (there and not is_store) or not out.suffix
    if is_folder and not there and (os.path.isfile(out) or is_picture_path(out)):  # noqa: PTH113
        raise ConfigError(f"--out {out} is a file; with several inputs it must be a folder")
    if compare is not None and bool(compare.suffix) == is_folder and not (is_folder and compare.is_dir()):
        kind = "a folder, because the output is one" if is_folder else "a file ending in .png"
        raise ConfigError(f"--compare must be {kind}, got {compare}")
    if not is_folder:
        return _checked(Plan(jobs=(Job(found[0].path, out, compare=compare),), is_folder=False))
    pictures = found if isinstance(found, Pictures) else Pictures(found)
    endings: dict[str, str] = {}
    plain = [
        _plain(pictures, index, place, format_name, endings) for index, place in enumerate(pictures.places())
    ]
    names = unlike_names(plain, lambda index: _marks(Path(pictures.path(index))))
    beside = None
    if compare is not None:
        shown = [f"{_without_ending(name)}.png" for name in names]
        shown = unlike_names(shown, lambda index: _marks(Path(names[index])))
        beside = [compare / name for name in shown]

    def job(index: int) -> Job:
        compare = None if beside is None else beside[index]
        return Job(Path(pictures.path(index)), out / names[index], compare=compare)

    plan = Plan(jobs=Jobs(range(len(names)), job), is_folder=True)
    return plan if beside is None else _checked(plan)


def _plain(found: Pictures, index: int, place: str, format_name: str | None, endings: dict[str, str]) -> str:
    """Return what a result is called if nothing else is called so; `endings` remembers those of pictures."""
    name = place.rpartition(os.sep)[2]
    ending = ending_of(name)
    if is_picture_name(name):  # asks nothing of the disk, for a million of them
        if ending not in endings:
            endings[ending] = output_extension(Path(name), format_name=format_name)
        new = endings[ending]
        return place if new == ending else f"{place[: len(place) - len(ending)]}{new}"
    one = found[index]
    if is_clip_path(one.path):
        return str(one.place.with_suffix(clip_ending(one.path)))
    if one.path.is_dir() and scene_ending(one.place) is None:  # slices of a series
        return f"{place}.nii"
    own = None if format_name is not None else result_name(one.place)
    return str(own or one.place.with_suffix(output_extension(one.path, format_name=format_name)))


def with_pages(plan: Plan, counts: Sequence[int]) -> Plan:
    """Return a plan with a job for each page, ``name_p001`` and so on; a file of one page keeps its job.

    Args:
        plan: one job for each file.
        counts: how many pages each has.
    """
    jobs: list[Job] = []
    for job, count in zip(plan.jobs, counts, strict=True):
        if count == 1:
            jobs.append(job)
            continue
        digits = max(3, len(str(count)))
        for page in range(count):
            mark = f"p{page + 1:0{digits}}"
            beside = None if job.compare is None else Path(_marked(str(job.compare), mark))
            jobs.append(replace(job, page=page, output=Path(_marked(str(job.output), mark)), compare=beside))
    outputs = unlike_names([str(job.output) for job in jobs])
    beside = iter(unlike_names([str(job.compare) for job in jobs if job.compare is not None]))
    jobs = [
        replace(job, output=Path(output), compare=None if job.compare is None else Path(next(beside)))
        for job, output in zip(jobs, outputs, strict=True)
    ]
    return _checked(replace(plan, jobs=tuple(jobs)))


def unlike_names(
    names: Sequence[str], marks: Callable[[int], Sequence[str]] = lambda _index: ()
) -> list[str]:
    """Return names that differ from each other, also where a file system does not tell ``A`` from ``a``.

    A name that only one picture wants stays. Others get one of their marks (the source's ending, a folder above it),
    or a number where no mark helps. Takes time in proportion to their count.

    Args:
        names: what each would be called, with folders. One that no disk could store is shortened.
        marks: gives what may be added to the name of an index.
    """
    result = [_fitting(name) for name in names]
    hashes = np.fromiter(
        (hash(_key(name)) for name in result), np.int64, len(result)
    )  # names would be more memory
    unlike, counts = np.unique(hashes, return_counts=True)
    if len(unlike) == len(result):
        return result
    clashing = {int(i): result[i] for i in np.flatnonzero(np.isin(hashes, unlike[counts > 1]))}
    taken = set(unlike[counts == 1].tolist())
    choices = {
        index: [_marked(name, mark) for mark in marks(index) if mark] for index, name in clashing.items()
    }
    offered = Counter(_key(choice) for own in choices.values() for choice in own)
    numbers: Counter[str] = Counter()
    for index, name in clashing.items():
        chosen = next(
            (c for c in choices[index] if offered[_key(c)] == 1 and hash(_key(c)) not in taken), None
        )
        while chosen is None:
            numbers[_key(name)] += 1
            numbered = _marked(name, str(numbers[_key(name)]))
            chosen = None if hash(_key(numbered)) in taken else numbered
        taken.add(hash(_key(chosen)))
        result[index] = chosen
    return result


def _checked(plan: Plan) -> Plan:
    """Return the plan, unless a before/after picture would have the name of a result."""
    if all(job.compare is None for job in plan.jobs):
        return plan
    results = {hash(_key(_whole(job.output))) for job in plan.jobs}
    for job in plan.jobs:
        if job.compare is not None and hash(_key(_whole(job.compare))) in results:
            raise ConfigError(
                f"--compare would write {job.compare}, where a result goes; choose another name or folder for it"
            )
    return plan


def _whole(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100


def _marks(path: Path) -> list[str]:
    return [path.suffix.lstrip(".").lower(), *(parent.name for parent in list(path.parents)[:PARENTS])]


def _marked(name: str, mark: str) -> str:
    return _fitting(name, f"_{mark}")


def _fitting(name: str, mark: str = "") -> str:
    """Return a name with a mark before its ending; the part before is cut where the whole would be too long."""
    folder, separator, last = name.rpartition(os.sep)
    if not mark and len(last) * 4 <= MAX_NAME_BYTES:
        return name
    own = ending_of(last)
    ending = f"{mark}{own}"
    room = max(1, MAX_NAME_BYTES - len(os.fsencode(ending)))
    stem = last[: len(last) - len(own)]
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return f"{folder}{separator}{stem}{ending}"


def _without_ending(name: str) -> str:
    ending = ending_of(name.rpartition(os.sep)[2])
    return name[: len(name) - len(ending)]


def _key(name: str) -> str:
    """Return what is equal for names that some file system takes for one: of other case, composed otherwise."""
    folded = name.casefold()
    return folded if folded.isascii() else unicodedata.normalize("NFD", folded)
