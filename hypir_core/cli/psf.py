"""``hypir psf``: a point spread function from a recording of beads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..files.scenes.grid import Grid
    from ..files.scenes.sharpest import Sharpest


def psf_command(
    beads: Annotated[
        Path, typer.Argument(metavar="BEADS", help="Recording of small beads that stand alone: TIFF, Zarr …")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The point spread, a TIFF.")],
    size: Annotated[int, typer.Option(help="Side of the result in pixels, odd.")] = 21,
    most: Annotated[int, typer.Option(help="Beads that are averaged at most, the brightest first.")] = 100,
    brightness: Annotated[
        float, typer.Option(help="0 to 1: dimmer than this part of the brightest one is no bead.")
    ] = 0.3,
    axes: Annotated[str, typer.Option(help="Letters of the file's axes where it names none.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
) -> None:
    """Measure how the microscope shows a point: find single beads, centre them, average them.

    Of a stack the sharpest plane is taken, the one with the brightest pixel.
    """
    import torch

    from ..errors import ConfigError, FileError
    from ..files.scenes.sharpest import sharpest_plane
    from ..physics.psf import psf_from_beads, write_psf
    from .opened import opened_scene

    if out.suffix.lower() not in {".tif", ".tiff"}:
        raise ConfigError(f"--out must end in .tif, got {out.name}")
    if out.exists() and not force:
        raise FileError(f"{out} exists; use --force to overwrite it, or choose another name")
    if not 0 < brightness <= 1 or most < 1:
        raise ConfigError(
            f"--brightness must lie in 0 … 1 and --most be 1 or more, got {brightness:g}, {most}"
        )
    with opened_scene(beads, axes, what="a recording") as scene:
        sharpest = sharpest_plane(scene)
        said = list(_notes(scene.grid, sharpest))
    found = psf_from_beads(torch.from_numpy(sharpest.plane), size_px=size, most=most, brightness=brightness)
    write_psf(out, found.psf)
    width = 2 * math.sqrt(int((found.psf >= found.psf.max() / 2).sum()) / math.pi)
    for note in said:
        console.say(f"note: {note}")
    console.tell(
        f"{out}: {len(found.places_px)} beads averaged, {size}×{size} px, about {width:.1f} px wide at half height"
    )


def _notes(grid: Grid, found: Sharpest) -> Iterator[str]:
    """Yield what must be said of a recording, of which one plane was taken."""
    import numpy as np

    if found.place:
        place = " ".join(f"{axis} {i}" for axis, i in zip(grid.axes, found.place, strict=False))
        yield f"the sharpest plane is taken, {place}"
    if grid.dtype.kind in "ui" and found.brightest >= np.iinfo(grid.dtype).max:
        yield "the brightest bead is saturated: the point spread comes out too wide; expose for less time"
