"""``hypir doctor``: what is installed, which engines can be used, what is missing and how to get it."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from rich.table import Table

from . import console

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
    "torchmetrics": "metrics",
    "accelerate": "train",
    "lpips": "train",
    "open_clip_torch": "train",
}
"""Package → the extra that brings it (none for what is always there)."""


def doctor_command(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what is installed, which engines are usable, and the exact commands that get what is missing."""
    from ..device import describe_device, free_memory_bytes, pick_device, pick_dtype
    from ..engines.catalog import ENGINES

    device = pick_device("auto")
    packages = {name: _version(name) for name in PACKAGES}
    engines = {entry.name: list(entry.load().missing()) for entry in ENGINES}
    free = free_memory_bytes(device) if device.type != "cpu" else None
    quickest = str(pick_dtype("auto", device, ("bfloat16", "float16", "float32"))).removeprefix("torch.")
    if as_json:
        found = {
            "device": describe_device(device),
            "dtype": quickest,
            "free_device_bytes": free,
            "packages": packages,
            "engines": {
                name: {"usable": not missing, "missing": missing} for name, missing in engines.items()
            },
        }
        console.out.print_json(json.dumps(found, ensure_ascii=False))
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
        table.add_row(name, "no" if missing else "yes", "\n".join(missing))
    console.out.print(table)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
