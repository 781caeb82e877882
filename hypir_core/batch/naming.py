"""What results are called: every picture gets a name of its own, decided before the first is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ConfigError
from ..files.formats import output_extension
from .finding import Found


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to restore."""

    source: Path
    output: Path
    page: int | None = None
    """Which page or frame of the file, from 0; None for a file of one, or its first."""
    compare: Path | None = None
    """Where a labelled before/after picture goes."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The jobs of a run."""

    jobs: tuple[Job, ...]
    is_folder: bool
    """Whether the output is a folder."""


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
        ConfigError: a file was named for several inputs.
    """
    is_folder = several or out.is_dir() or not out.suffix
    if is_folder and out.is_file():
        raise ConfigError(f"--out {out} is a file; with several inputs it must be a folder")
    if compare is not None and bool(compare.suffix) == is_folder:
        kind = "a folder, because the output is one" if is_folder else "a file ending in .png"
        raise ConfigError(f"--compare must be {kind}, got {compare}")
    if not is_folder:
        return Plan(jobs=(Job(found[0].path, out, compare=compare),), is_folder=False)
    plain = [f.place.with_suffix(output_extension(f.path, format_name=format_name)) for f in found]
    names = unlike_names(plain, [(f.path.suffix.lstrip(".").lower(), f.path.parent.name) for f in found])
    jobs = [Job(f.path, out / name) for f, name in zip(found, names, strict=True)]
    if compare is not None:
        pictures = [name.with_suffix(".png") for name in names]
        beside = unlike_names(pictures, [(name.suffix.lstrip("."), name.parent.name) for name in names])
        jobs = [replace(job, compare=compare / name) for job, name in zip(jobs, beside, strict=True)]
    return Plan(jobs=tuple(jobs), is_folder=True)


def unlike_names(names: Sequence[Path], marks: Sequence[Sequence[str]]) -> list[Path]:
    """Return names that differ from each other, also where a file system does not tell ``A`` from ``a``.

    A name that only one picture wants stays. Others get one of their marks (the source's ending, its folder), or a
    number where no mark helps. Takes time in proportion to their count.

    Args:
        names: what each would be called.
        marks: what may be added to each.
    """
    wanted = Counter(map(_key, names))
    taken = {key for key, count in wanted.items() if count == 1}
    numbers: Counter[str] = Counter()
    marked = [
        [_marked(name, mark) for mark in own if mark] if wanted[_key(name)] > 1 else [name]
        for name, own in zip(names, marks, strict=True)
    ]
    offered = Counter(_key(name) for choices in marked for name in choices)
    result = []
    for name, choices in zip(names, marked, strict=True):
        if wanted[_key(name)] == 1:
            result.append(name)
            continue
        chosen = next((c for c in choices if offered[_key(c)] == 1 and _key(c) not in taken), None)
        while chosen is None:
            numbers[_key(name)] += 1
            numbered = _marked(name, str(numbers[_key(name)]))
            chosen = None if _key(numbered) in taken else numbered
        taken.add(_key(chosen))
        result.append(chosen)
    return result


def _marked(name: Path, mark: str) -> Path:
    return name.with_name(f"{name.stem}_{mark}{name.suffix}")


def _key(name: Path) -> str:
    return str(name).casefold()


def with_pages(job: Job, count: int) -> list[Job]:
    """Return one job for each of a file's pages, ``name_p001`` and so on; the job itself where there is one page."""
    if count == 1:
        return [job]
    digits = max(3, len(str(count)))
    return [
        replace(
            job,
            page=page,
            output=_marked(job.output, f"p{page + 1:0{digits}}"),
            compare=None if job.compare is None else _marked(job.compare, f"p{page + 1:0{digits}}"),
        )
        for page in range(count)
    ]
