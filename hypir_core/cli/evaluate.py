"""``hypir eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..errors import ConfigError, UnknownNameError
from . import console

COLUMNS = {
    "psnr_y": ("PSNR-Y dB", "psnr_y_db"),
    "psnr": ("PSNR dB", "psnr_db"),
    "ssim": ("SSIM", "ssim"),
    "ms_ssim": ("MS-SSIM", "ms_ssim"),
    "lpips": ("LPIPS", "lpips"),
    "frc": ("FRC px", "frc_px"),
}
"""Metric → the heading of its column, and the field of a row."""


def eval_command(
    ref_dir: Annotated[Path, typer.Argument(help="Folder of true pictures.")],
    out_dir: Annotated[Path, typer.Argument(help="Folder of results, with the same names.")],
    metrics: Annotated[
        str, typer.Option(help=f"Which, by commas: {', '.join(COLUMNS)}.")
    ] = "psnr_y,ssim,ms_ssim,lpips",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure results against true pictures, with all of their bits.

    PSNR-Y, SSIM, MS-SSIM, and LPIPS where its weights are present; for microscopy `--metrics psnr,ssim,frc`.
    """
    from ..metrics.folder import Metric, evaluate_folders

    wanted = [name.strip() for name in metrics.split(",") if name.strip()]
    if not wanted:
        raise ConfigError(f"--metrics: name one or more of {', '.join(COLUMNS)}")
    for name in wanted:
        if name not in COLUMNS:
            raise UnknownNameError("metric", name, COLUMNS)
    found = evaluate_folders(ref_dir, out_dir, metrics=[Metric(name) for name in wanted])
    mean = found.mean()
    if as_json:
        console.tell_json(found.to_json())
    elif mean is not None:
        table = Table("picture", *(COLUMNS[name][0] for name in wanted))
        for row in (*found.rows, mean):
            table.add_row(row.name, *(_cell(getattr(row, COLUMNS[name][1])) for name in wanted))
        console.out.print(table)
        if found.why_no_lpips is not None:
            console.say(f"no LPIPS: {found.why_no_lpips}")
    for problem in found.problems:
        console.say(problem)
    if found.problems:
        raise typer.Exit(1)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}" if value < 2 else f"{value:.2f}"
