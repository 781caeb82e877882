"""One scene: opened, restored, written; a run that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..chained import joined_report, part_of
from ..engines.base import Engine, EngineSpec
from ..engines.chain import Chain
from ..engines.leaving import home_if_cut_short
from ..errors import ConfigError, ImageFileError
from ..files.reading import content_hash
from ..files.scenes.axes import Wanted
from ..files.scenes.catalog import format_for_scene, open_scene, open_scene_sink
from ..files.scenes.recognise import is_scene_folder, scene_format
from ..files.scenes.scene import Scene
from ..files.writing import copy_dates
from ..request import Report, Request, picture_text
from ..runtime import Runtime
from ..scenes.checks import check_wishes
from ..scenes.figures import check_truth
from ..scenes.notes import damaged_planes
from ..scenes.restoring import restore_scene
from .naming import Job
from .scene_chain import before_the_last, steps_of

FLOAT_BITS = 32


def scene_format_of(spec: EngineSpec, job: Job, wanted: Wanted) -> str | None:
    """Return the scene format of a job's source, or None where it is a picture.

    Raises:
        ConfigError: bands, axes or a data set are named for a picture.
    """
    found = scene_format(job.source, wanted, file_values=spec.file_values)
    asked = {"--bands": wanted.bands, "--axes": wanted.axes, "--dataset": wanted.dataset}
    if found is None and job.source.exists() and any(asked.values()):
        names = " and ".join(name for name, it in asked.items() if it)
        raise ConfigError(
            f"{job.source}: {names} belong to rasters, volumes and stacks, got a picture; leave it out"
        )
    return found


@contextmanager
def _opened(truth: Path | None, job: Job, wanted: Wanted) -> Iterator[Scene | None]:
    """Open what a result should be, if it is given."""
    if truth is None:
        yield None
        return
    path = truth / job.source.name if truth.is_dir() and not is_scene_folder(truth) else truth
    if not path.exists():
        raise ConfigError(
            f"--truth {path}: there is no such file; give a file, or a folder with files of the inputs' names"
        )
    plain = replace(wanted, bands=(), named=())
    name = scene_format(path, plain, file_values=True)
    if name is None:
        raise ConfigError(
            f"--truth {path}: expected a stack, a volume or a raster, got a picture; write it as TIFF"
        )
    scene = open_scene(path, replace(plain, dataset=""), format_name=name)
    try:
        yield scene
    finally:
        scene.close()


def source_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, or of the names and bytes of all files in a folder."""
    if not path.is_dir():
        return content_hash(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    facts = [(file.relative_to(path).as_posix(), content_hash(file)) for file in files]
    return hashlib.sha256(json.dumps(facts).encode("utf-8", "surrogatepass")).hexdigest()


def restore_scene_file(
    engine: Engine,
    job: Job,
    request: Request,
    runtime: Runtime,
    *,
    wanted: Wanted,
    format_name: str,
    key: str = "",
    force: bool = False,
    refused: Mapping[str, bool] | None = None,
    keep_dates: bool = False,
    bits: int | None = None,
    truth: Path | None = None,
) -> Report:
    """Restore one raster, volume or stack into a file of the format that the output's name asks for.

    Number format, scaling, nodata, mask, coordinates and names are the input's; see `docs/how-to/scenes.md`.

    Args:
        engine: loaded.
        job: what goes where.
        request: what is asked for.
        runtime: where it runs.
        wanted: bands, axes, data set.
        format_name: the source's format.
        key: hash of all that the result depends on: with it, a killed run is gone on with.
        force: overwrite.
        refused: what else was asked for, by name, that scenes do not have.
        keep_dates: give the result the times of its input.
        bits: 32 writes float32, which rounds nothing; None keeps the number format.
        truth: a file of what the result should be; or a folder that holds one of the input's name.

    Raises:
        ImageFileError: the scene cannot be read, or the result cannot be written.
        ConfigError, ShapeError: engine, scene and request do not fit.
        HypirError: whatever `scenes.restoring.restore_scene` raises.
    """
    if wrong := [name for name, it in (refused or {}).items() if it]:
        raise ConfigError(f"a scene keeps its own values: leave out {' and '.join(wrong)}")
    if bits not in {None, FLOAT_BITS}:
        raise ConfigError(f"a scene keeps its number format, or has 32 bits (float32), got --bits {bits}")
    check_wishes(engine.spec, request)
    scene = open_scene(job.source, wanted, format_name=format_name)
    try:
        steps = steps_of(engine, scene, request)
        last = steps[-1]
        writes = format_for_scene(job.output, scene, format_name)
        with _opened(truth, job, wanted) as true:
            if true is not None:
                check_truth(true, last.grid)
            with (
                home_if_cut_short(engine),
                before_the_last(steps, scene, runtime, output=job.output, format_name=writes, key=key) as (
                    given,
                    reports,
                ),
            ):
                sink = open_scene_sink(
                    job.output,
                    given,
                    last.factors,
                    format_name=writes,
                    order=last.order,
                    bands=last.bands,
                    dtype=None if bits is None else np.dtype(np.float32),
                    key=key,
                    force=force,
                )
                try:
                    of_last = replace(runtime, progress=part_of(runtime.progress, len(steps) - 1, len(steps)))
                    report = restore_scene(last.engine, given, sink, last.request, of_last, truth=true)
                    if isinstance(engine, Chain):
                        report = joined_report(engine, [*reports, report])
                    sink.text = picture_text(request, report) | {"hypir.key": key}
                    sink.commit()
                except BaseException:
                    sink.abort()
                    raise
    finally:
        scene.close()
    if wrong := damaged_planes(sink):
        raise ImageFileError(f"{wrong}; without data in {job.output}, where the other planes are done")
    if keep_dates and job.source.is_file():
        copy_dates(job.source, job.output)
    return replace(report, notes=(*report.notes, *sink.notes))
