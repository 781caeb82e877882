"""Which pictures a person means: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from ..errors import ConfigError
from ..files.clips.formats import is_clip_path
from ..files.formats import is_picture_name, unreadable_reason
from ..files.scenes.recognise import is_scene_folder, is_scene_path
from .numbered import Numbered
from .shards import is_manifest_name


@dataclass(frozen=True, slots=True)
class Found:
    """A picture that was found."""

    path: Path
    place: Path
    """Where its result belongs below an output folder: a folder's structure is kept."""
    named: bool = True
    """Whether a person named it, and not a folder or a pattern."""


class Pictures(Sequence[Found]):
    """Pictures that were found; each is made when it is asked for, so that a million are 100 bytes each.

    A path ends with the place of its result, nearly always: what is before it is kept once for all that share it.
    """

    __slots__ = ("_befores", "_befores_of", "_named", "_numbers", "_places", "_whole")

    def __init__(self, found: Iterable[Found] = ()):
        self._places: list[str] = []
        self._named = bytearray()
        self._befores: list[str] = []
        self._numbers: dict[str, int] = {}
        self._befores_of = array("I")
        self._whole: dict[int, str] = {}
        """Paths that do not end so."""
        for one in found:
            self.add(str(one.path), str(one.place), named=one.named)

    def add(self, path: str, place: str, *, named: bool) -> None:
        """Append a picture."""
        self._places.append(place)
        self._named.append(named)
        self._befores_of.append(0)
        self._put(len(self._places) - 1, path)

    def name(self, index: int, path: str) -> None:
        """Say of a picture that a person named it, and how."""
        self._named[index] = True
        self._put(index, path)

    def places(self) -> Sequence[str]:
        """Return where each result belongs, in order."""
        return self._places

    def path(self, index: int) -> str:
        """Return a file's path."""
        if self._whole and index in self._whole:
            return self._whole[index]
        return f"{self._befores[self._befores_of[index]]}{self._places[index]}"

    def kept(self, wanted: Callable[[str, bool], bool]) -> Pictures:
        """Return those that are wanted: asked with the path, and whether a person named it."""
        some = Pictures()
        for index, (place, named) in enumerate(zip(self._places, self._named, strict=True)):
            if wanted(path := self.path(index), bool(named)):
                some.add(path, place, named=bool(named))
        return some

    def _put(self, index: int, path: str) -> None:
        self._whole.pop(index, None)
        if not path.endswith(self._places[index]):
            self._whole[index] = path
            return
        before = path[: len(path) - len(self._places[index])]
        if before not in self._numbers:
            self._numbers[before] = len(self._befores)
            self._befores.append(before)
        self._befores_of[index] = self._numbers[before]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Found: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Found]: ...
    def __getitem__(self, index: int | slice) -> Found | Sequence[Found]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return Found(Path(self.path(index)), Path(self._places[index]), named=bool(self._named[index]))


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found."""

    pictures: Pictures
    passed_over: tuple[str, ...] = ()
    """One sentence for each kind of file that was left out: it cannot be read, or lies in a hidden or linked folder."""
    problems: tuple[str, ...] = ()
    """One line for each folder that could not be listed: what lies in it is missing from the run."""
    manifests: tuple[Path, ...] = ()
    """Manifests of earlier runs, in folders below those that were named."""


def find_pictures(inputs: Sequence[str]) -> Finding:
    """Find the named files, and the pictures in folders (recursive) and glob patterns, each once.

    A file that is literally called as a pattern is that file. Hidden folders, and links to
    folders, are searched only where they are named.

    Raises:
        ConfigError: nothing was found, or an input is empty.
    """
    walk = _Walk()
    for given in inputs:
        if not given.strip():
            raise ConfigError(f"expected a file, a folder or a pattern, got {given!r}; name what to restore")
        if os.path.lexists(given) or not glob.has_magic(given):
            walk.take_named(Path(given))
        else:
            for match in _matches(given):
                walk.take_match(Path(match), given)
    found = walk.finding()
    if not found.pictures:
        why = "; ".join([*found.problems, *found.passed_over])
        raise ConfigError(f"no pictures found in {', '.join(map(repr, inputs))}{f'; {why}' if why else ''}")
    return found


@dataclass(slots=True)
class _Walk:
    pictures: Pictures = field(default_factory=Pictures)
    indexes: Numbered = field(default_factory=Numbered)
    """Absolute path → which of the pictures it is."""
    unread: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    manifests: list[Path] = field(default_factory=list)

    def take_named(self, path: Path) -> None:
        """Take a file or folder that a person named."""
        if os.path.isdir(path) and not is_scene_folder(path):  # noqa: PTH112  # `is_dir` raises: name too long
            self._take_folder(path)
            return
        key = os.path.abspath(path)  # noqa: PTH100  # `resolve` would follow links
        known = self.indexes.add(key)
        if known == len(self.pictures):
            self.pictures.add(str(path), path.name, named=True)
        else:
            self.pictures.name(known, str(path))

    def take_match(self, path: Path, pattern: str) -> None:
        """Take what a pattern matched: a file, or a folder as a shell would hand it over."""
        if is_clip_path(path) and os.path.isfile(path):  # noqa: PTH113  # in a folder it would be hours of work unasked
            self._keep(str(path), path.name)
        elif not os.path.isdir(path) or is_scene_folder(path, by_name=True):  # noqa: PTH112
            self._take(str(path), path.name, path.name)
        elif "**" not in pattern:  # that one matches what lies in the folder as well
            self._take_folder(path)

    def finding(self) -> Finding:
        """Return what was found so far."""
        passed_over = [f"{_counted(count, 'file')} passed over: {why}" for why, count in self.unread.items()]
        passed_over += [
            f"{_counted(count, 'picture')} passed over in the hidden folder {place}: name it to include it"
            for place, count in self.hidden.items()
        ]
        if self.links:
            first = f"{self.links[0]} first" if len(self.links) > 1 else self.links[0]
            passed_over.append(
                f"{_counted(len(self.links), 'linked folder')} passed over ({first}): name it to include it"
            )
        return Finding(
            pictures=self.pictures,
            passed_over=tuple(passed_over),
            problems=tuple(self.problems),
            manifests=tuple(self.manifests),
        )

    def _take_folder(self, root: Path) -> None:
        for folder, names, hidden in self._folders(str(root)):
            place = os.path.relpath(folder, root)
            below = "" if place == os.curdir else f"{place}{os.sep}"
            if below:
                self.manifests += [Path(folder, name) for name in names if is_manifest_name(name)]
            inside = "" if folder == os.curdir else os.path.join(folder, "")  # noqa: PTH118
            for name in names:
                if hidden is None:
                    self._take(f"{inside}{name}", f"{below}{name}", name)
                elif _is_wanted(name, f"{inside}{name}"):
                    self.hidden[hidden] += 1

    def _take(self, path: str, place: str, name: str) -> None:
        if _is_wanted(name, path):
            self._keep(path, place)
        elif (reason := unreadable_reason(Path(path))) is not None:
            self.unread[reason] += 1

    def _keep(self, path: str, place: str) -> None:
        if self.indexes.add(os.path.abspath(path)) == len(self.pictures):  # noqa: PTH100
            self.pictures.add(path, place, named=False)

    def _folders(self, root: str, hidden: str | None = None) -> Iterator[tuple[str, list[str], str | None]]:
        """Give each folder at and below `root`, sorted: its path, its files' names, the hidden folder it is in."""
        waiting = [(root, hidden)]
        while waiting:
            folder, hidden = waiting.pop()
            names, folders = [], []
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False) and is_scene_folder(
                            Path(entry.path), by_name=True
                        ):
                            names.append(entry.name)
                        elif entry.is_dir(follow_symlinks=False):
                            folders.append(entry.name)
                        elif entry.is_dir():  # a link may lead back to where it lies
                            self.links.append(entry.path)
                        elif _may_be_read(entry):
                            names.append(entry.name)
            except OSError as err:
                self.problems.append(
                    f"{folder}: expected a folder that can be listed, got: {err.strerror or err}; "
                    "change its permissions or leave it out"
                )
            yield folder, sorted(names), hidden
            for name in sorted(folders, reverse=True):
                path = name if folder == os.curdir else os.path.join(folder, name)  # noqa: PTH118
                waiting.append((path, hidden or (path if name.startswith(".") else None)))


def _is_wanted(name: str, path: str) -> bool:
    """Say whether a file is called as a picture or a scene; of folders only scenes come here."""
    if is_picture_name(name):
        return True
    whole = Path(path)
    return is_scene_path(whole) or is_scene_folder(whole, by_name=True)


def _may_be_read(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a file; a pipe or device would be waited for. A dead link counts: it is told."""
    return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))  # noqa: PTH110


def _matches(pattern: str) -> list[str]:
    """Return what a pattern matches, sorted. Brackets in the names of folders that are there mean themselves."""
    head = Path(Path(pattern).anchor)
    rest = list(Path(pattern).parts[1 if Path(pattern).anchor else 0 :])
    while len(rest) > 1 and os.path.lexists(head / rest[0]):
        head /= rest.pop(0)
    literal = glob.escape(str(head)) if head.parts else ""
    found: list[str] = []
    for tail in (os.path.join(*rest), os.path.join(*rest).replace("[", "[[]")):  # noqa: PTH118
        found = found or glob.glob(os.path.join(literal, tail), recursive=True)  # noqa: PTH118, PTH207
    return sorted(found)


def _counted(count: int, what: str) -> str:
    return f"{count} {what} was" if count == 1 else f"{count} {what}s were"
