"""How much better than bicubic a ×4 restorer is, on photographs it has not seen.

    uv run python benchmarks/restorer_quality.py PHOTO_FOLDER [--engine NAME] [--weights FILE] [--count N]
    uv run python benchmarks/restorer_quality.py PICTURES --recipes as-it-is    # how far colours move, locally

Every photograph is degraded by each recipe at a fixed seed and shrunk ×4 (`clean` is the antialiased bicubic shrink,
rounded to 8 bit), restored, and compared with itself: PSNR-Y and SSIM on luma, borders included; GMSD (lower is
better); detail, the mean gradient ÷ the photograph's; the grid of 4 px (1 is none); the shift of the mean colour in
8-bit levels, over the whole picture beside the truth (`color_shift`) and of a block beside the input (`block_shift`).
The recipe's own sharpening of the target is off: the truth is the photograph. `as-it-is` enlarges the picture itself,
for which there is no truth. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import fmean

import torch

from hypir_core import Request, Runtime, load_engine, pick_device, read_picture, restore, to_planes
from hypir_core.degrade import degrade, load_recipe
from hypir_core.files.formats import is_picture_path
from hypir_core.image.resize import resize
from hypir_core.metrics.fidelity import psnr_y, ssim
from hypir_core.metrics.gradients import detail_ratio, gmsd, grid_measure

RECIPES = ("realesrgan", "light", "jpeg-web", "old-photo", "scan", "clean")
AS_IT_IS = "as-it-is"
SCALE = 4
BLOCK_PX = 8


def pair(path: Path, recipe: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (truth, low quality) of one photograph."""
    photo, _ = to_planes(read_picture(path))
    h, w = (side // SCALE * SCALE for side in photo.shape[-2:])
    truth = photo[..., :h, :w]
    if recipe == "clean":
        small = resize(truth, (h // SCALE, w // SCALE)).clamp(0, 1)
        return truth, (small * 255).round() / 255
    made = degrade(
        truth,
        load_recipe(recipe, {"sharpen": None}),
        generator=torch.Generator().manual_seed(seed),
        scale=SCALE,
    )
    return truth, made.lq_01


def block_shift(low: torch.Tensor, image: torch.Tensor) -> float:
    """Return the largest change of the mean colour of a block of 8² px of `low`, in 8-bit levels."""
    before = torch.nn.functional.avg_pool2d(low, BLOCK_PX)
    after = torch.nn.functional.avg_pool2d(image, BLOCK_PX * SCALE)
    return 255 * float((after - before).abs().max())


def measured(image: torch.Tensor, low: torch.Tensor, truth: torch.Tensor | None) -> dict[str, float]:
    """Return what can be said of a result; without a truth, only what needs none."""
    alone = {"grid": grid_measure(image), "block_shift": block_shift(low, image)}
    if truth is None:
        return alone
    return {
        "psnr": float(psnr_y(image, truth)),
        "ssim": float(ssim(image, truth)),
        "gmsd": float(gmsd(image, truth)),
        "detail": float(detail_ratio(image, truth)),
        **alone,
        "color_shift": 255 * float((image.mean((2, 3)) - truth.mean((2, 3))).abs().max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", default="built-in")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    given = parser.parse_args()
    device = pick_device("auto")
    options = {} if given.weights is None else {"weights": given.weights}
    engine = load_engine(given.engine, options=options, device=device, dtype="float32")
    files = sorted(p for p in given.folder.iterdir() if is_picture_path(p))[: given.count]
    start = time.perf_counter()
    rows = []
    for recipe in given.recipes:
        figures: dict[str, list[float]] = {}
        for seed, path in enumerate(files):
            truth, low = (
                (None, to_planes(read_picture(path))[0]) if recipe == AS_IT_IS else pair(path, recipe, seed)
            )
            plain = resize(low, (low.shape[-2] * SCALE, low.shape[-1] * SCALE)).clamp(0, 1)
            better = restore(engine, low, Request(), Runtime(device=device)).image_01
            for name, image in (("bicubic_", plain), ("", better)):
                for what, value in measured(image, low, truth).items():
                    figures.setdefault(name + what, []).append(value)
        mean = {name: fmean(values) for name, values in figures.items()}
        row = {"recipe": recipe, **{name: round(value, 4) for name, value in mean.items()}}
        row["block_shift_of_the_worst"] = round(max(figures["block_shift"]), 4)
        if "psnr" in mean:
            row["psnr_gain_db"] = round(mean["psnr"] - mean["bicubic_psnr"], 3)
            row["ssim_gain"] = round(mean["ssim"] - mean["bicubic_ssim"], 4)
        rows.append(row)
    report = {
        "engine": given.engine,
        "weights": engine.spec.weights,
        "photographs": len(files),
        "results": rows,
        "seconds": round(time.perf_counter() - start, 1),
        "torch": torch.__version__,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
