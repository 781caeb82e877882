"""``hypir degrade``: make a good picture bad, to try a restorer on it or to make training pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import Cancelled, ConfigError
from . import console


def degrade_command(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders (recursive) or globs.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Output file, or folder for several inputs.")],
    preset: Annotated[str, typer.Option(help="Recipe: a preset's name or a YAML file.")] = "realesrgan",
    scale: Annotated[
        float | None, typer.Option(help="Shrink by this factor as well; default: the recipe decides.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Picture k of the run is drawn from seed + k.")] = 0,
    format_name: Annotated[str, typer.Option("--format", help="png, jpg, webp or tiff.")] = "png",
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing outputs.")] = False,
) -> None:
    """Degrade pictures the way cameras, scanners and the web do, and say what was done to each."""
    import torch

    from ..batch.checking import check_before
    from ..batch.earlier import without_results
    from ..batch.failing import why_it_failed
    from ..batch.finding import find_pictures
    from ..batch.naming import Sources, name_outputs
    from ..batch.restoring import Writing, check_files
    from ..degrade import degrade, load_recipe
    from ..files.picture import to_planes
    from ..files.reading import read_picture
    from ..files.writing import write_picture

    recipe = load_recipe(preset)
    finding = without_results(find_pictures(inputs), out)
    found = finding.pictures
    if not found:
        raise ConfigError(f"every picture in {', '.join(map(repr, inputs))} is a result of an earlier run")
    several = len(inputs) > 1 or not found[0].named
    plan = name_outputs(found, out, format_name=format_name, several=several)
    writing = Writing(format=format_name, force=force, protect=Sources(plan.jobs))
    check_before(plan, writing)
    failed = 0
    for index, job in enumerate(plan.jobs):
        try:
            check_files(job, writing)
            picture = read_picture(job.source)
            color_01, _alpha = to_planes(picture)
            made = degrade(
                color_01, recipe, generator=torch.Generator().manual_seed(seed + index), scale=scale
            )
            write_picture(
                job.output,
                made.lq_01,
                like=picture,
                format_name=format_name,
                bits=8,
                text={"hypir.degrade": f"{preset} seed {seed + index}: {made.notes[0]}"},
                force=force,
            )
        except Cancelled:
            raise
        except Exception as err:  # whatever it is, it is this picture's
            failed += 1
            console.say(why_it_failed(err, job.source, job.output), of=job.source)
        else:
            console.tell(f"{job.output}: {made.notes[0]}")
    console.say_what_was_left_out(finding)
    if failed and len(plan.jobs) > 1:
        console.say(f"{failed} of {len(plan.jobs)} pictures failed; the others are done")
    if failed or finding.problems:
        raise typer.Exit(1)
