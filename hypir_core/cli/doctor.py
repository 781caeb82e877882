"""``hypir doctor``: what is installed, which engines can be used, what is missing and how to get it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from . import console
from .engine_options import options_for

if TYPE_CHECKING:
    from ..measure.planner import RunPlan

PACKAGES = {
    "torch": "",
    "safetensors": "",
    "pydantic": "",
    "typer": "cli",
    "tifffile": "cli",
    "imagecodecs": "cli",
    "spandrel": "upscalers",
    "diffusers": "diffusion",
    "transformers": "diffusion",
    "kornia": "diffusion",
    "torchmetrics": "metrics",
    "gradio": "web",
    "accelerate": "train",
    "lpips": "train",
    "open_clip_torch": "train",
}
"""Package → the extra that brings it (none for what is always there)."""


def doctor_command(
    plan: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Say instead how a result of this size would be made: 4096x4096."),
    ] = None,
    engine: Annotated[str, typer.Option(help="With --plan: the engine.")] = "one-step",
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="With --plan: its settings.")
    ] = None,
    device_name: Annotated[
        str, typer.Option("--device", help="With --plan: auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    dtype: Annotated[str, typer.Option(help="With --plan: auto, float32, bfloat16 or float16.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    *,
    engine_flags: dict[str, Any],
) -> None:
    """Say what is installed, which engines are usable, and the exact commands that get what is missing."""
    from ..device import describe_device, free_memory_bytes, pick_device, pick_dtype
    from ..engines.catalog import ENGINES
    from ..engines.optional import is_usable

    if plan is not None:
        from ..image.size import parse_size
        from ..measure.planner import plan_run

        where = pick_device(device_name)
        options = options_for(engine, engine_flags, option)
        found = plan_run(engine, parse_size(plan), options=options, device=where, dtype=dtype)
        _print_plan(found, as_json=as_json)
        return
    device = pick_device("auto")
    packages = {name: _version(name) for name in PACKAGES}
    engines = {entry.name: list(entry.load().missing()()) for entry in ENGINES}
    free = free_memory_bytes(device) if device.type != "cpu" else None
    quickest = str(pick_dtype("auto", device, ("bfloat16", "float16", "float32"))).removeprefix("torch.")
    if as_json:
        found = {
            "device": describe_device(device),
            "dtype": quickest,
            "free_device_bytes": free,
            "packages": packages,
            "engines": {
                name: {"usable": is_usable(missing), "missing": missing} for name, missing in engines.items()
            },
        }
        console.tell_json(found)
        return
    console.out.print(
        f"device: {describe_device(device)}, {quickest}"
        + ("" if free is None else f", {free / 2**30:.1f} GiB free")
    )
    table = Table("package", "version", "to get it")
    for name, found_version in packages.items():
        extra = PACKAGES[name]
        command = f"pip install 'onestep-restore[{extra}]'" if extra else f"pip install {name}"
        table.add_row(name, found_version or "missing", "" if found_version else command)
    console.out.print(table)
    table = Table("engine", "usable", "to make it usable")
    for name, missing in engines.items():
        table.add_row(name, "yes" if is_usable(missing) else "no", "\n".join(missing))
    console.out.print(table)


def _print_plan(plan: RunPlan, *, as_json: bool) -> None:
    from ..config import to_plain

    if as_json:
        sums = {
            "least_seconds": plan.least_seconds,
            "seconds": plan.seconds,
            "working_bytes": plan.working_bytes,
        }
        console.tell_json(to_plain(plan) | sums)
        return
    h, w = plan.output_px
    rate = plan.matrix_flops_per_second / 1e12
    console.out.print(f"{plan.engine}, {w}×{h} px on {plan.device} in {plan.dtype}")
    table = Table("stage", "tiles", "at a time", "memory MiB", "TFLOP", "seconds")
    for stage in plan.stages:
        table.add_row(
            stage.name,
            stage.tiles,
            str(stage.batch),
            f"{stage.working_bytes / 2**20:.0f}",
            f"{stage.flops / 1e12:.2f}",
            "–" if stage.seconds is None else f"{stage.seconds:.1f}",
        )
    console.out.print(table)
    console.out.print(
        f"memory: {plan.working_bytes / 2**20:.0f} MiB above the weights, and {plan.canvas_bytes / 2**20:.0f} MiB "
        f"for the whole picture on the {plan.canvas_device}"
    )
    at_least = f"at least {plan.least_seconds:.1f} s at this device's {rate:.2f} TFLOP/s of matrix products"
    if plan.seconds is None:
        console.out.print(
            f"time: {at_least}; `hypir bench --engine {plan.engine}` finds out how near it comes"
        )
    else:
        console.out.print(f"time: about {plan.seconds:.1f} s; {at_least}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
