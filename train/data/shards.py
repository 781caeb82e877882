"""WebDataset shards: tar files, whose members are found once, so that any of them can be read at any time."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hypir_core.errors import ConfigError, ImageFileError, MissingDependencyError

from .channels import read_channels, read_channels_size
from .endings import ARRAY, ENDINGS, printable
from .pictures import Fit
from .source import COLOUR, Channels, Item
from .usable import misfit, nothing_usable, report_skipped, split_usable

PROMPT = ".txt"
FACTS = ".json"
HEAD_BYTES = 16384
"""Read first to find a picture's size; most headers lie within."""


class Part(NamedTuple):
    """Bytes of a shard."""

    start: int
    size: int


@dataclass(frozen=True)
class Sample:
    """The members of one key: what WebDataset calls a sample."""

    shard: Path
    key: str
    picture: Part
    prompt: Part | None
    """The .txt member, or the .json member where a key of it is the prompt."""
    problem: str = ""

    @property
    def name(self) -> str:
        """Return what a person would look for."""
        return printable(f"{self.shard}:{self.key}")


@dataclass(frozen=True)
class Shards:
    """The usable samples of tar files, in their order."""

    where: str
    samples: tuple[Sample, ...]
    fit: Fit
    prompt_key: str | None
    skipped: tuple[str, ...]
    left_out: int
    """Samples among the skipped; the others are damaged shards."""
    hash: str
    """SHA-256 over names of shards, keys, places and sizes."""
    channels: Channels = COLOUR
    paired: bool = field(default=False, init=False)

    @property
    def weights(self) -> None:
        """Have none: every sample is drawn alike."""
        return

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, index: int) -> str:
        """Return the shard and the key in it."""
        return self.samples[index].name

    def item(self, index: int) -> Item:
        """Read one sample.

        Raises:
            ImageFileError: it cannot be decoded, or does not fit.
        """
        sample = self.samples[index]
        hq = read_channels(io.BytesIO(_read(sample, sample.picture)), self.channels.hq, sample.name)
        if problem := misfit(self.fit, hq, None):
            raise ImageFileError(f"{sample.name}: {problem}")
        return Item(hq, prompt=_prompt(sample, self.prompt_key))


def open_shards(
    pattern: Path,
    *,
    key: str,
    fit: Fit,
    prompt_key: str | None,
    check: bool,
    channels: Channels = COLOUR,
) -> Shards:
    """Find the samples of shards: ``x.tar``, ``{000..009}.tar``, ``*.tar``, or a folder of them.

    Members belong together by their name up to the first dot after the last slash. A sample has one picture;
    its prompt is the ``.txt`` member, or with `prompt_key` that key of the ``.json`` member.

    Raises:
        ConfigError: a shard is missing, or nothing in them is usable; names `key`.
    """
    found: list[Sample] = []
    broken: list[str] = []
    for shard in expand_shards(pattern, key):
        members, problem = _members(shard)
        found += _samples(shard, members, prompt_key)
        if problem:
            broken.append(
                f"{printable(str(shard))}: {problem}; the {len(members)} members before that are used"
            )
    usable, unusable = split_usable(
        found,
        lambda each: each.problem or (_problem(each, fit, channels) if check else ""),
        lambda each: each.name,
    )
    skipped = (*broken, *unusable)
    report_skipped(unusable, len(found), key=key, damaged=broken)
    if not usable:
        raise nothing_usable(key, f"{pattern} holds no usable picture", skipped)
    digest = hashlib.sha256()
    for each in usable:
        digest.update(
            "\0".join(map(str, (each.shard.name, each.key, each.picture, each.prompt))).encode(
                "utf-8", "backslashreplace"
            )
        )
    return Shards(
        where=printable(str(pattern)),
        samples=tuple(usable),
        fit=fit,
        prompt_key=prompt_key,
        skipped=skipped,
        left_out=len(unusable),
        hash=digest.hexdigest(),
        channels=channels,
    )


def expand_shards(pattern: Path, key: str) -> list[Path]:
    """Return the tar files that `pattern` means.

    Raises:
        ConfigError: one of them is missing, or braces do not match; names `key`.
    """
    if pattern.is_dir():
        return sorted(pattern.glob("*.tar"))
    names = [str(pattern)]
    if "{" in names[0]:
        try:
            from braceexpand import braceexpand
        except ImportError as err:
            raise MissingDependencyError("braceexpand", "train", "a pattern with braces") from err
        try:
            names = list(braceexpand(names[0], escape=False))
        except ValueError as err:
            raise ConfigError(f"{key}: {pattern} has braces that do not match ({err})") from err
    shards: list[Path] = []
    for path in map(Path, names):
        shards += sorted(path.parent.glob(path.name)) if set("*?[") & set(path.name) else [path]
    if missing := [str(shard) for shard in shards if not shard.is_file()]:
        raise ConfigError(
            f"{key}: {len(missing)} of {len(shards)} shards are missing: {', '.join(missing[:5])}"
        )
    return shards


def _members(shard: Path) -> tuple[list[tarfile.TarInfo], str]:
    """Return the files in a shard as far as it can be read, and what is wrong with it."""
    members: list[tarfile.TarInfo] = []
    try:
        with tarfile.open(shard, "r:") as tar:
            members.extend(member for member in tar if member.isfile())
    except (tarfile.TarError, OSError) as err:
        return members, f"is damaged or not an uncompressed tar file ({err})"
    return members, ""


def _samples(shard: Path, members: Sequence[tarfile.TarInfo], prompt_key: str | None) -> Iterator[Sample]:
    """Group the members by key."""
    groups: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in members:
        folder, slash, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        if stem:  # .DS_Store and ._x.jpg are no samples
            groups.setdefault(f"{folder}{slash}{stem}", {})[f".{ending.lower()}"] = member
    end = shard.stat().st_size
    for key, parts in groups.items():
        pictures = [member for ending, member in parts.items() if ending in ENDINGS - {ARRAY}]
        pictures = pictures or [member for ending, member in parts.items() if ending == ARRAY]
        wanted = parts.get(FACTS if prompt_key else PROMPT)
        problem = ""
        if len(pictures) != 1:
            problem = f"has {len(pictures)} pictures, expected one; members: {', '.join(parts)}"
        elif any(member.offset_data + member.size > end for member in parts.values()):
            problem = "is cut off by the end of the shard"
        elif prompt_key and wanted is None:
            problem = f"has no {FACTS} member with the prompt {prompt_key!r}"
        picture = _part(pictures[0]) if pictures else Part(0, 0)
        yield Sample(shard, key, picture, _part(wanted) if wanted else None, problem)


def _part(member: tarfile.TarInfo) -> Part:
    return Part(member.offset_data, member.size)


def _problem(sample: Sample, fit: Fit, channels: Channels) -> str:
    """Return why the picture cannot be used, from its header alone, or nothing."""
    start, size = sample.picture
    try:
        try:
            head = _read(sample, Part(start, min(size, HEAD_BYTES)))
            return fit.problem(*read_channels_size(io.BytesIO(head), channels.hq))
        except ImageFileError:
            if size <= HEAD_BYTES:
                raise
            whole = io.BytesIO(_read(sample, sample.picture))
            return fit.problem(*read_channels_size(whole, channels.hq))
    except ImageFileError as err:
        return str(err)


def _prompt(sample: Sample, prompt_key: str | None) -> str:
    if sample.prompt is None:
        return ""
    try:
        text = _read(sample, sample.prompt).decode("utf-8")
        prompt = json.loads(text)[prompt_key] if prompt_key else text.strip()
    except (ValueError, KeyError, TypeError) as err:
        raise ImageFileError(
            f"{sample.name}: its prompt cannot be read ({type(err).__name__}: {err})"
        ) from err
    if not isinstance(prompt, str):
        raise ImageFileError(f"{sample.name}: its prompt is not text: {prompt!r}")
    return prompt


def _read(sample: Sample, part: Part) -> bytes:
    try:
        with sample.shard.open("rb") as file:
            file.seek(part.start)
            return file.read(part.size)
    except OSError as err:
        raise ImageFileError(f"{sample.name}: cannot be read ({err})") from err
