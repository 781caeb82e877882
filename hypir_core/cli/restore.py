"""``hypir restore``."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..allocator import give_back_freed_memory, keep_freed_memory
from ..color.mode import ColorFix
from ..errors import Cancelled, ConfigError
from . import console
from .engine_options import options_for


class Format(str, Enum):
    """Formats that can be written."""

    png = "png"
    jpg = "jpg"
    webp = "webp"
    tiff = "tiff"
    npy = "npy"


class Pages(str, Enum):
    """Which pages of a file are restored."""

    first = "first"
    all = "all"


class WindowName(str, Enum):
    """Blend windows; the meanings stand in `tiling.window.Window`."""

    hann = "hann"
    gaussian = "gaussian"
    linear = "linear"


def restore_command(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders (recursive) or globs.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Output file, or folder for several inputs.")],
    format_name: Annotated[
        Format | None,
        typer.Option("--format", help="Format to write; default: the input's, or the one OUT names."),
    ] = None,
    engine: Annotated[str, typer.Option(help="Engine; `hypir engines` lists them.")] = "built-in",
    scale: Annotated[
        float | None, typer.Option(help="Factor on both sides, 1 to 8; default: the engine's.")
    ] = None,
    longest_side: Annotated[int | None, typer.Option(help="Length of the longer side, px.")] = None,
    megapixels: Annotated[float | None, typer.Option(help="Area in million pixels.")] = None,
    prompt: Annotated[str, typer.Option(help="What the picture shows, for engines that listen.")] = "",
    tile: Annotated[
        int | None, typer.Option(help="Nominal tile side, output px; default: the engine's.")
    ] = None,
    overlap: Annotated[int | None, typer.Option(help="Least overlap of tiles, output px.")] = None,
    window: Annotated[WindowName | None, typer.Option(help="Blend between tiles.")] = None,
    batch_tiles: Annotated[str, typer.Option(help="Tiles per batch, or auto.")] = "auto",
    color_fix: Annotated[
        ColorFix | None, typer.Option(help="Where colour comes from; default: the engine's.")
    ] = None,
    color_strength: Annotated[
        float, typer.Option(help="0 keeps the engine's colours, 1 is the full fix.")
    ] = 1.0,
    strength: Annotated[float, typer.Option(help="0 keeps the resized input, 1 is fully restored.")] = 1.0,
    mask: Annotated[
        Path | None, typer.Option(help="Picture whose brightness multiplies the strength.")
    ] = None,
    seed: Annotated[int, typer.Option(help="For engines that draw noise.")] = 0,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="A setting of this engine only.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    report: Annotated[Path | None, typer.Option(help="Write what was done as JSON.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Write a labelled before/after PNG (a folder for several inputs).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing outputs.")] = False,
    pages: Annotated[
        Pages, typer.Option(help="Of files with several pages or frames: the first, or all.")
    ] = Pages.first,
    keep_dates: Annotated[
        bool, typer.Option("--keep-dates", help="Give results the times of their inputs.")
    ] = False,
    *,
    engine_flags: dict[str, Any],
) -> None:
    """Restore pictures.

    A run over several pictures that was stopped goes on where it was when started again.
    """
    from ..batch.finding import find_pictures
    from ..batch.manifest import MANIFEST, Manifest, Result
    from ..batch.naming import Job, name_outputs
    from ..batch.running import Writing, check_before, every_page, not_made_before, run_jobs
    from ..device import pick_device
    from ..engines.catalog import load_engine
    from ..image.size import TargetSize
    from ..pipeline import check_tiles
    from ..request import Report, Request
    from ..runtime import Runtime
    from ..tiling.plan import TileWish
    from ..tiling.window import Window
    from .downloads import fetcher

    options = options_for(engine, engine_flags, option)
    request = Request(
        target=TargetSize(scale=scale, longest_side_px=longest_side, megapixels=megapixels),
        prompt=prompt,
        seed=seed,
        tile=TileWish(
            tile_px=tile, overlap_px=overlap, window=None if window is None else Window(window.value)
        ),
        color_fix=color_fix,
        color_strength=color_strength,
        strength=strength,
    )
    name = None if format_name is None else format_name.value
    finding = find_pictures(inputs)
    manifest = Manifest(out / MANIFEST)
    found = not_made_before(finding.pictures, out, manifest)
    if not found:
        raise ConfigError(f"every picture in {', '.join(map(repr, inputs))} is a result of an earlier run")
    several = len(inputs) > 1 or not found[0].named
    plan = name_outputs(found, out, format_name=name, several=several, compare=compare)
    if pages is Pages.all:
        plan = every_page(plan)
    writing = Writing(
        format=name,
        force=force,
        mask=mask,
        protect=tuple(job.source for job in plan.jobs),
        keep_dates=keep_dates,
    )
    check_before(plan, writing, report=report)
    for note in finding.notes():
        console.say(note)
    keep_freed_memory()
    where = pick_device(device)
    loaded = load_engine(
        engine,
        options,
        device=where,
        dtype=dtype,
        fetch=fetcher(consented=bool(options.get("download"))),
    )
    check_tiles(loaded, request)  # a tile that cannot be had is a usage error, not each picture's
    reports: list[dict[str, Any]] = []

    with console.bars() as bars:

        def finished(job: Job, result: Result, done: Report | None) -> None:
            entry: dict[str, Any] = {"input": result.input, "output": result.output, "status": result.status}
            if result.error is not None:
                console.say(result.error, of=job.source)
                entry["error"] = result.error
            if done is not None:
                entry["report"] = json.loads(done.to_json())
                (h, w), (H, W) = done.input_px, done.output_px
                bars.line(f"{job.source} → {job.output}  {w}×{h} → {W}×{H}  {result.seconds:.1f} s")
                for note in done.notes:
                    console.say(f"note: {note}", of=job.source)
            reports.append(entry)

        runtime = Runtime(
            device=where,
            batch_tiles=_batch_tiles(batch_tiles),
            progress=console.tick_of(bars),
            tidy=give_back_freed_memory,
        )
        try:
            results = run_jobs(
                loaded,
                plan.jobs,
                request,
                runtime,
                writing=writing,
                manifest=manifest if plan.is_folder else None,
                started=lambda job: bars.start(job.source.name),
                finished=finished,
            )
        except KeyboardInterrupt as err:
            raise Cancelled(
                f"stopped after {len(reports)} of {len(plan.jobs)} pictures; the same command goes on from there"
            ) from err
        finally:
            if report is not None:
                _write_report(report, reports, force=force)
    failed = [result for result in results if result.status == "failed"]
    if failed:
        if len(results) > 1:
            console.say(f"{len(failed)} of {len(results)} pictures failed; the others are done")
        raise typer.Exit(1)


def _batch_tiles(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--batch-tiles must be auto or a whole number from 1 on, got {text!r}")
    return int(text)


def _write_report(path: Path, reports: list[dict[str, Any]], *, force: bool) -> None:
    from ..atomic import atomic_file
    from ..errors import FileError

    if path.exists() and not force:
        raise FileError(f"{path} exists; use --force to overwrite it")
    text = json.dumps({"schema": 1, "results": reports}, ensure_ascii=False, indent=2) + "\n"
    with atomic_file(path) as file:
        file.write(text.encode())
