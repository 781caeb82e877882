"""What steps, tags and particles are worth: SeeSR's engine on a folder of pairs, one row per combination.

    uv run python -m benchmarks.seesr_ablation TRUE DEGRADED --out RESULTS --steps 1 2 4 8 --tags auto none off \
      --particles 1 4

TRUE and DEGRADED hold pictures of the same names; a true one is --scale times as large. `auto` reads the picture's
tags and tokens, `none` its tokens alone, `off` neither (no tagger, no image blocks). The first row is bicubic
enlargement, and every PSNR is beside its difference to it. Figures are those of `hypir eval` (LPIPS where its
weights are), without --crop rows and columns at the border. The pictures stay in RESULTS. The engine finds its
weights as `hypir restore` does; --option names others: --option base_model=FOLDER. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

from hypir_core import (
    Request,
    Runtime,
    TargetSize,
    load_engine,
    pick_device,
    read_picture,
    restore,
    to_planes,
    write_picture,
)
from hypir_core.config import parse_assignments
from hypir_core.image.resize import resize
from hypir_core.metrics.folder import Row, evaluate_folders, pair_folders

TAGS: Mapping[str, Mapping[str, Any]] = {"auto": {}, "none": {"max_tags": 0}, "off": {"tagger": "off"}}
"""Word on the command line → settings of the engine."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the table."""

    name: str
    """``bicubic``, or the combination."""
    mean: Row
    """Over the pictures."""
    seconds: float
    """Per picture; files are not in it."""


def ablate(
    pairs: tuple[Path, Path],
    out: Path,
    *,
    combinations: Sequence[tuple[int, str, int]],
    options: Mapping[str, Any],
    scale: float,
    crop_px: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> Iterator[Line]:
    """Restore and measure, and yield each row as it is done.

    Args:
        pairs: folders of true and of degraded pictures.
        out: gets a folder of results per row.
        combinations: (steps, key of `TAGS`, particles).
        options: of the engine, for all of them.
        scale: of the true pictures against the degraded ones.
        crop_px: left out of every measure at the border.
        device: as `pick_device` takes it.
        dtype: as `load_engine` takes it.

    Raises:
        ConfigError: pictures without a partner, or settings that the engine refuses.
        WeightsNotFoundError: from `load_engine`.
    """
    true, degraded = pairs
    paths = [path for _, path in pair_folders(true, degraded)]
    place = pick_device(device)
    request = Request(target=TargetSize(scale=scale))

    def line(name: str, enlarge: Any) -> Line:
        folder, seconds = out / name.replace(", ", "_").replace(" ", "-"), 0.0
        for path in paths:
            picture_01 = to_planes(read_picture(path))[0].expand(-1, 3, -1, -1)
            start = perf_counter()
            result_01 = enlarge(picture_01)
            seconds += perf_counter() - start
            target = (folder / path.relative_to(degraded)).with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            write_picture(target, result_01.clamp(0, 1), force=True)
        mean = evaluate_folders(true, folder, crop_px=crop_px).mean()
        assert mean is not None, f"{folder}: no result is as large as its true picture; check --scale"
        return Line(name=name, mean=mean, seconds=seconds / len(paths))

    def by_bicubic(picture_01: Any) -> Any:
        h, w = picture_01.shape[-2:]
        return resize(picture_01, (round(h * scale), round(w * scale)))

    yield line("bicubic", by_bicubic)
    for steps, tags, particles in combinations:
        chosen = {**options, **TAGS[tags], "steps": steps, "particles": particles}
        engine = load_engine("seesr", chosen, device=place, dtype=dtype)
        name = f"{steps} steps, tags {tags}, {particles} particles"
        runtime = Runtime(device=place)
        yield line(
            name, lambda x, engine=engine, runtime=runtime: restore(engine, x, request, runtime).image_01
        )


def table(lines: Sequence[Line]) -> str:
    """Return a Markdown table of the rows; the first one is what the others are compared with."""
    first = lines[0].mean
    rows = [
        "| | PSNR-Y dB | over bicubic | SSIM | MS-SSIM | LPIPS ↓ | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        mean = line.mean
        figures = ["–" if v is None else f"{v:.3f}" for v in (mean.ssim, mean.ms_ssim, mean.lpips)]
        gain = f"{mean.psnr_y_db - first.psnr_y_db:+.2f}"
        rows.append(
            f"| {line.name} | {mean.psnr_y_db:.2f} | {gain} | {' | '.join(figures)} | {line.seconds:.1f} |"
        )
    return "\n".join(rows)


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("true", type=Path)
    parser.add_argument("degraded", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--tags", choices=list(TAGS), nargs="+", default=["auto", "off"])
    parser.add_argument("--particles", type=int, nargs="+", default=[1])
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--crop", type=int, default=0, help="px left out at the border")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, help="write every row there")
    given = parser.parse_args(words)
    lines = list(
        ablate(
            (given.true, given.degraded),
            given.out,
            combinations=list(product(given.steps, given.tags, given.particles)),
            options=parse_assignments(given.option),
            scale=given.scale,
            crop_px=given.crop,
            device=given.device,
            dtype=given.dtype,
        )
    )
    print(table(lines))
    if given.json:
        given.json.write_text(json.dumps([asdict(line) for line in lines], indent=1) + "\n")


if __name__ == "__main__":
    main()
