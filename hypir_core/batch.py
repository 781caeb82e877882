"""Files and folders: which picture goes where, what is already done, one picture after another."""

from __future__ import annotations

import glob
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from .engines.base import Engine
from .errors import ConfigError, HypirError, ImageFileError, ShapeError
from .files.formats import format_for_output, is_picture_path, output_extension
from .files.picture import to_planes
from .files.reading import content_hash, read_picture
from .files.writing import write_picture
from .image.compare import compare_picture
from .pipeline import Restored, restore
from .request import Request, picture_text
from .runtime import Runtime

MANIFEST = "hypir-manifest.jsonl"
"""Name of the manifest in an output folder: one JSON line per finished or failed picture."""


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to restore."""

    source: Path
    output: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """How one job ended; the manifest's line."""

    input: str
    output: str
    status: str
    """``done``, ``skipped`` or ``failed``."""
    key: str
    """Hash of the input file, the request and the weights: the same key is the same result."""
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How results are written."""

    format: str | None = None
    force: bool = False
    """Overwrite existing outputs."""
    compare: Path | None = None
    """Also write a labelled before/after picture: a file, or a folder if there are several inputs."""
    mask: Path | None = None
    """A picture of the input's size whose brightness multiplies the strength."""
    protect: tuple[Path, ...] = field(default=())
    """Files that are never overwritten: every input of the run."""


def collect_jobs(
    inputs: Sequence[str], out: Path, *, format_name: str | None
) -> tuple[tuple[Job, ...], bool]:
    """Find the pictures and name their outputs.

    Args:
        inputs: files, folders (searched recursively, their structure is kept) or glob patterns.
        out: a file if there is one input file and the name has an extension, otherwise a folder.
        format_name: the format to write; by default the input's own (PNG where that cannot be written).

    Returns:
        The jobs, sorted, and whether `out` is a folder.

    Raises:
        ConfigError: nothing was found, or a file was named for several inputs.
    """
    found = [(source, place) for source, place in find_pictures(inputs) if not _is_below(source, out)]
    if not found:
        raise ConfigError(f"no pictures found in {', '.join(map(repr, inputs))}")
    several = len(inputs) > 1 or Path(inputs[0]) != found[0][0]
    is_folder = several or out.is_dir() or not out.suffix
    if is_folder and out.is_file():
        raise ConfigError(f"--out {out} is a file; with several inputs it must be a folder")
    if not is_folder:
        return (Job(found[0][0], out),), False
    return tuple(_name_outputs(found, out, format_name)), True


def find_pictures(inputs: Sequence[str]) -> list[tuple[Path, Path]]:
    """Return the named files, and the pictures in folders (recursive) and glob patterns, each once.

    Each comes with its place below an output folder: a folder's structure is kept.

    Raises:
        ConfigError: nothing was found.
    """
    found: dict[Path, Path] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and is_picture_path(p))
            found |= {p: p.relative_to(path) for p in inside}
        elif path.exists() or not glob.has_magic(given):
            found[path] = Path(path.name)
        else:
            matches = sorted(Path(m) for m in glob.glob(given, recursive=True))  # noqa: PTH207  # may be absolute
            found |= {p: Path(p.name) for p in matches if p.is_file() and is_picture_path(p)}
    if not found:
        raise ConfigError(f"no pictures found in {', '.join(map(repr, inputs))}")
    return list(found.items())


def run_jobs(
    engine: Engine,
    jobs: Iterable[Job],
    request: Request,
    runtime: Runtime,
    *,
    writing: Writing,
    manifest: Path | None,
    started: Callable[[Job], None] = lambda _job: None,
    finished: Callable[[Job, Result, Restored | None], None] = lambda _job, _result, _restored: None,
) -> list[Result]:
    """Restore one picture after another; one that fails is reported and the rest goes on.

    With a manifest, a picture whose line says done, with the same input content, request and weights, and whose
    output is still there, is skipped: a run that was stopped goes on where it was.
    """
    done = _read_manifest(manifest) if manifest is not None else {}
    results = []
    for job in jobs:
        started(job)
        begin = time.perf_counter()
        restored, key = None, ""
        try:
            key = f"{content_hash(job.source)[:16]}-{request.key()}-{engine.spec.key()}"
            if done.get(str(job.output)) == key and job.output.exists():
                result = Result(input=str(job.source), output=str(job.output), status="skipped", key=key)
            else:
                restored = restore_file(engine, job, request, runtime, writing=writing)
                result = Result(
                    input=str(job.source),
                    output=str(job.output),
                    status="done",
                    key=key,
                    seconds=round(time.perf_counter() - begin, 3),
                )
        except ConfigError:
            raise
        except HypirError as err:
            result = Result(
                input=str(job.source), output=str(job.output), status="failed", key=key, error=str(err)
            )
        if manifest is not None and result.status != "skipped":
            _append(manifest, result)
        results.append(result)
        finished(job, result, restored)
    return results


def restore_file(
    engine: Engine, job: Job, request: Request, runtime: Runtime, *, writing: Writing
) -> Restored:
    """Read, restore and write one picture; grey stays grey, alpha is restored separately and kept.

    Raises:
        ImageFileError: the picture cannot be read, or the result cannot be written.
        HypirError: whatever `pipeline.restore` raises.
    """
    _refuse_early(job, writing)
    picture = read_picture(job.source)
    color_01, alpha_01 = to_planes(picture)
    if (
        alpha_01 is not None
        and alpha_01.min() < 1
        and not format_for_output(job.output, writing.format).holds_alpha
    ):
        raise ImageFileError(
            f"{job.output}: expected a format that holds alpha (png, webp, tiff, npy), got jpg"
        )
    mask_01 = None if writing.mask is None else _read_mask(writing.mask, color_01)
    restored = restore(engine, color_01, request, runtime, mask_01=mask_01, alpha_01=alpha_01)
    write_picture(
        job.output,
        restored.image_01,
        alpha_01=restored.alpha_01,
        like=picture,
        format_name=writing.format,
        text=picture_text(request, restored.report),
        force=writing.force,
        protect=(job.source, *writing.protect),
    )
    if writing.compare is not None:
        target = writing.compare / f"{job.output.stem}.png" if not writing.compare.suffix else writing.compare
        labels = ("before", f"after: {engine.spec.name}")
        write_picture(
            target,
            compare_picture(color_01, restored.image_01, labels=labels),
            format_name="png",
            force=writing.force,
            protect=(job.source, job.output, *writing.protect),
        )
    return restored


def _refuse_early(job: Job, writing: Writing) -> None:
    """Refuse what writing would refuse, before the work instead of after it."""
    if job.output.exists() and not writing.force:
        raise ImageFileError(f"{job.output} exists; use --force to overwrite it, or choose another output")


def _read_mask(path: Path, color_01: Tensor) -> Tensor:
    mask, _ = to_planes(read_picture(path))
    if mask.shape[-2:] != color_01.shape[-2:]:
        h, w = color_01.shape[-2:]
        raise ShapeError(
            f"{path}: the mask must be as large as the picture, {w}×{h}, got {mask.shape[-1]}×{mask.shape[-2]}"
        )
    return mask.mean(1, keepdim=True)


def _name_outputs(found: Sequence[tuple[Path, Path]], out: Path, format_name: str | None) -> Iterable[Job]:
    """Two inputs that would get one name (a.jpg and a.png written as PNG) keep their extension in it."""
    plain = [
        out / place.with_suffix(output_extension(source, format_name=format_name)) for source, place in found
    ]
    for (source, place), output in zip(found, plain, strict=True):
        clash = plain.count(output) > 1
        name = f"{place.stem}_{source.suffix.lstrip('.').lower()}{output.suffix}"
        yield Job(source, output.with_name(name) if clash else output)


def _is_below(path: Path, folder: Path) -> bool:
    return folder.is_dir() and path.resolve().is_relative_to(folder.resolve())


def _read_manifest(path: Path) -> dict[str, str]:
    """Return output → key of every finished picture; a last line cut off by a stop is passed over."""
    done: dict[str, str] = {}
    if not path.exists():
        return done
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError as err:
            if number == len(lines):
                break
            raise ImageFileError(f"{path}: line {number} is not JSON; remove the line or the file") from err
        if entry["status"] == "done":
            done[entry["output"]] = entry["key"]
        else:
            done.pop(entry["output"], None)
    return done


def _append(path: Path, result: Result) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cut_off = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut_off else "") + json.dumps(asdict(result), ensure_ascii=False) + "\n")
