"""``hypir bench``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..allocator import keep_freed_memory
from . import console
from .engine_options import options_for

if TYPE_CHECKING:
    from ..measure.profile import Profiled
    from ..measure.run import Result


def bench_command(
    engine: Annotated[list[str] | None, typer.Option(help="Engine; may be repeated.")] = None,
    size: Annotated[
        list[str] | None, typer.Option(help="Result: a side, or WIDTHxHEIGHT, px; may be repeated.")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="auto, float32, bfloat16, float16; may be repeated.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="auto, cpu, cuda, cuda:N, mps; may be repeated.")
    ] = None,
    scale: Annotated[int, typer.Option(min=1, max=8, help="The input is this much smaller.")] = 4,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="A setting of the engine.")
    ] = None,
    tile: Annotated[int | None, typer.Option(help="Nominal tile side; default: as planned.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Least overlap of tiles.")] = None,
    batch_tiles: Annotated[
        int | None, typer.Option(min=1, help="Tiles per batch; default: as planned.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Measured runs; their median counts.")] = 3,
    against: Annotated[
        Path | None, typer.Option(metavar="CHECKOUT", help="Time the original HYPIR beside it, in turns.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="TRACE.json", help="One more run of the last case, profiled.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    *,
    engine_flags: dict[str, Any],
) -> None:
    """Measure speed and memory: seconds, where they go, peak memory, and the share of what the machine can do.

    Every case is warmed up with one batch of tiles per stage. Files are not read or written.
    """
    import torch

    from ..config import to_plain
    from ..device import pick_device
    from ..image.size import parse_size
    from ..measure.against import original
    from ..measure.device_speed import remember
    from ..measure.machine import describe_machine
    from ..measure.profile import write_profile
    from ..measure.run import Case, load, measure

    kept = keep_freed_memory()
    sizes = [parse_size(text) for text in size or ["1024"]]
    results: list[Result] = []
    machine = {**describe_machine(), "freed_memory_kept": kept}
    with ExitStack() as stack:
        for name, where in product(engine or ["built-in"], device or ["auto"]):
            place = pick_device(where)
            theirs = None if against is None else stack.enter_context(original(against, device=place))
            for number_format in dtype or ["auto"]:
                case = Case(
                    engine=name,
                    options=options_for(name, engine_flags, option),
                    size_px=sizes[0],
                    scale=scale,
                    dtype=number_format,
                    device=place,
                    batch_tiles=batch_tiles,
                    tile_px=tile,
                    overlap_px=overlap,
                )
                loaded = load(case)
                for size_px in sizes:
                    case = replace(case, size_px=size_px)
                    in_turns = partial(theirs.run, size_px) if theirs else None
                    ours = measure(case, loaded, repeats=repeats, between=in_turns)
                    results.append(ours)
                    # A preview has other rates than the engine.
                    if ours.matrix_tflops is not None and not loaded.spec.settings.get("fast_decoder"):
                        rate = ours.matrix_tflops * 1e12
                        remember(
                            name, place, getattr(torch, loaded.spec.dtype), rate=rate, shares=ours.shares()
                        )
                    if theirs is not None:
                        results.append(theirs.result(size_px))
                if profile is not None:
                    _print_profile(write_profile(case, loaded, profile))
    if as_json:
        found = {
            "results": to_plain(results),
            "machine": machine,
            "command": " ".join(["hypir", *sys.argv[1:]]),
        }
        console.tell_json(found)
    else:
        _print(results)


def _print(results: list[Result]) -> None:
    table = Table(
        "engine", "size", "format", "seconds", "±", "CPU seconds", "peak MiB", "TFLOP/s", "of the matrix rate"
    )
    for row in results:
        table.add_row(
            row.engine,
            str(row.size),
            row.dtype,
            f"{row.seconds:.2f}",
            f"{row.spread_seconds / 2:.2f}",
            f"{row.cpu_seconds:.2f}",
            *("–" if value is None else text for value, text in _figures(row)),
        )
    console.out.print(table)
    for row in results:
        console.tell(f"{row.engine} {row.size}, {row.device}, {row.weights}")
        for name, stage in row.stages.items():
            console.tell(f"  {name}: {stage.seconds:.2f} s, {stage.tflops:.3f} TFLOP/s, {stage.tiles}")


def _print_profile(profiled: Profiled) -> None:
    """Print it on standard error, so that the figures of --json stay alone."""
    for stage in profiled.stages:
        memory = "" if stage.peak_mib is None else f", peak {stage.peak_mib} MiB with the weights"
        console.say(f"profiled {stage.name}: {stage.seconds:.3f} s{memory}")
    console.err.print(profiled.operations)


def _figures(row: Result) -> list[tuple[float | None, str]]:
    return [
        (row.peak_mib, f"{row.peak_mib}"),
        (row.tflops, f"{row.tflops or 0:.3f}"),
        (row.share_of_matrix_rate, f"{row.share_of_matrix_rate or 0:.0%}"),
    ]
