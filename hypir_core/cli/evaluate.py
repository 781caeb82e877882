"""``hypir eval``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from . import console


def eval_command(
    ref_dir: Annotated[Path, typer.Argument(help="Folder of true pictures.")],
    out_dir: Annotated[Path, typer.Argument(help="Folder of results, with the same names.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure results against true pictures: PSNR-Y, SSIM, MS-SSIM, and LPIPS where its weights are present."""
    from ..metrics.folder import evaluate_folders

    found = evaluate_folders(ref_dir, out_dir)
    mean = found.mean()
    if as_json:
        console.out.print_json(json.dumps(found.to_json(), ensure_ascii=False))
    elif mean is not None:
        table = Table("picture", "PSNR-Y dB", "SSIM", "MS-SSIM", "LPIPS")
        for row in (*found.rows, mean):
            table.add_row(row.name, *(_cell(v) for v in (row.psnr_y_db, row.ssim, row.ms_ssim, row.lpips)))
        console.out.print(table)
        if found.why_no_lpips is not None:
            console.say(f"no LPIPS: {found.why_no_lpips}")
    for problem in found.problems:
        console.say(problem)
    if found.problems:
        raise typer.Exit(1)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}" if value < 2 else f"{value:.2f}"
