"""From a raster and a volume to restored ones: make, train, restore, open, compare. No download; minutes on a CPU.

    uv run --extra scenes --extra volumes python -m benchmarks.scenes_walk WORK [raster|volume] [--steps N]

Two synthetic sets, written as GeoTIFF and NIfTI: a 13-band scene (fields, woods, water, roads and roofs, each with a
spectrum of its own) and a head-like phantom (nested, folded shells with texture). `tiny_13_bands` (×4) and `tiny_3d`
(×2) train a small GAN on one part; another part is made smaller as in training, restored by `hypir restore`, and
compared with what it was: PSNR over all bands, spectral angle, beside bicubic (trilinear). The result is opened with
rasterio (nibabel), and a point must keep its place. Writes WORK/raster.png, WORK/volume.png and prints JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
PIXEL_M, CORNER = 10.0, (600_000.0, 5_400_000.0)
TRAINED, HELD_OUT = 768, 256


def fractal(shape: tuple[int, ...], rng: torch.Generator, *, octaves: int = 5) -> Tensor:
    """Return noise of mean 0 and deviation 1 with detail at every size."""
    mode = "bicubic" if len(shape) == 2 else "trilinear"
    total = torch.zeros(shape)
    for octave in range(octaves):
        coarse = torch.randn(1, 1, *(max(2, n >> (6 - octave)) for n in shape), generator=rng)
        total += F.interpolate(coarse, size=shape, mode=mode, align_corners=False)[0, 0] * 0.6**octave
    return (total - total.mean()) / total.std()


def raster(side: int, seed: int) -> Tensor:
    """Return reflectances [13 side side], 0 to 10000."""
    rng = torch.Generator().manual_seed(seed)
    spectra_rng = torch.Generator().manual_seed(0)  # materials are the same everywhere
    knots = torch.rand(10, 1, 5, generator=spectra_rng) * 0.5 + 0.03
    spectra = F.interpolate(knots, size=13, mode="linear", align_corners=True)[:, 0]
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    cells = torch.stack([y, x], -1).reshape(-1, 2).float()
    count = side * side // 1500
    centres = torch.rand(count, 2, generator=rng) * side
    nearest = torch.cat([torch.cdist(part, centres).argmin(1) for part in cells.split(65536)])
    material = torch.randint(0, 8, (count,), generator=rng)[nearest].view(side, side)
    for _ in range(side // 40):  # roads: lines of one or two pixels
        angle, offset = (float(v) for v in torch.rand(2, generator=rng))
        turn = math.pi * angle
        away = (x - side / 2) * math.cos(turn) + (y - side / 2) * math.sin(turn) - (offset - 0.5) * 1.4 * side
        material[away.abs() < 1.2] = 8
    for _ in range(side * side // 2500):  # roofs
        top, left = (int(v) for v in torch.randint(0, side - 12, (2,), generator=rng))
        h, w = (int(v) for v in torch.randint(3, 12, (2,), generator=rng))
        material[top : top + h, left : left + w] = 9
    shade = 1 + 0.12 * fractal((side, side), rng) + 0.05 * torch.randn(side, side, generator=rng)
    bands = spectra[material].permute(2, 0, 1) * shade.clamp_min(0.2)
    kernel = torch.tensor([1.0, 4.0, 1.0]) / 6  # the instrument's point spread
    for axis in (-1, -2):
        taps = kernel.view(1, 1, *((1, 3) if axis == -1 else (3, 1)))
        padding = (1, 1, 0, 0) if axis == -1 else (0, 0, 1, 1)
        bands = F.conv2d(F.pad(bands[:, None], padding, "replicate"), taps)[:, 0]
    return (bands * 10_000).clamp(0, 10_000).round()


def phantom(seed: int, shape: tuple[int, int, int] = (96, 128, 112)) -> Tensor:
    """Return a head-like volume [z y x], values 0 to about 1500."""
    rng = torch.Generator().manual_seed(seed)
    axes = [torch.linspace(-1, 1, n) for n in shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    fold = 0.05 * fractal(shape, rng, octaves=4) + 0.02 * fractal(shape, rng, octaves=6)
    r = (z**2 / 0.75 + y**2 / 0.9 + x**2 / 0.7).sqrt() + fold * 0.3
    out = torch.zeros(shape)
    out[r < 1.0] = 700  # skin
    out[r < 0.93] = 90  # skull
    out[r < 0.86] = 300  # fluid
    out[(r + fold) < 0.8] = 650  # grey matter
    out[(r + 2.0 * fold) < 0.68] = 950  # white matter
    for _ in range(12):
        place = (torch.rand(3, generator=rng) - 0.5) * 0.8
        size = 0.03 + 0.12 * torch.rand(3, generator=rng)
        inside = sum(((a - p) / s) ** 2 for a, p, s in zip((z, y, x), place, size, strict=True)) < 1
        out[inside] = 250 + 900 * float(torch.rand(1, generator=rng))
    bias = 1 + 0.1 * fractal(shape, rng, octaves=1)
    texture = 18 * fractal(shape, rng, octaves=7)
    return (out * bias + texture * (out > 50)).clamp(0, 4000)


def write_geotiff(path: Path, bands: Tensor, *, pixel_m: float, names: tuple[str, ...] = BANDS) -> None:
    import rasterio
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    profile: dict[str, Any] = {
        "driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2],
        "dtype": "uint16", "crs": "EPSG:32632", "transform": from_origin(*CORNER, pixel_m, pixel_m),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(bands.numpy().astype(np.uint16))
        file.descriptions = names


def write_nifti(path: Path, volume: Tensor, *, cell_mm: float) -> None:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([cell_mm, cell_mm, cell_mm, 1.0])
    affine[:3, 3] = (-40, -60, -50)
    values = volume.permute(2, 1, 0).numpy().astype(np.int16)  # NIfTI counts x y z
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def run(*words: object) -> None:
    """Run a command of this project; "hypir" stands beside the running Python."""
    command = [str(Path(sys.executable).with_name(str(words[0]))), *map(str, words[1:])]
    print("$", " ".join([str(words[0]), *command[1:]]), file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=sys.stderr)


def train(preset: str, root: Path, out: Path, steps: int) -> tuple[Path, float]:
    """Return the exported weights, and the seconds that it took."""
    begun = time.monotonic()
    threads = os.environ.get("OMP_NUM_THREADS", "2")
    run(
        "python",
        "-m",
        "train",
        preset,
        f"data.root={root}",
        f"output_dir={out}",
        f"max_steps={steps}",
        f"threads={threads}",
    )
    return out / "generator_ema.safetensors", time.monotonic() - begun


def psnr(one: Tensor, other: Tensor) -> float:
    peak = float(other.max() - other.min())
    return round(-10 * math.log10(float(((one - other) / peak).square().mean())), 2)


def angle_degrees(one: Tensor, other: Tensor) -> float:
    cosine = F.cosine_similarity(one.double(), other.double(), dim=0).clamp(-1, 1)
    return round(float(cosine.acos().rad2deg().mean()), 3)


def raster_walk(work: Path, steps: int) -> dict[str, Any]:
    import rasterio

    write_geotiff(work / "raster/train/a.tif", raster(TRAINED, 1), pixel_m=PIXEL_M)
    truth = raster(HELD_OUT, 2)
    small = F.interpolate(truth[None], scale_factor=0.25, mode="bicubic", antialias=True)[0]
    small = small.clamp(0, 10_000).round()
    write_geotiff(work / "raster/held_out.tif", small, pixel_m=4 * PIXEL_M)
    weights, seconds = train("tiny_13_bands", work / "raster/train", work / "raster/run", steps)
    result = work / "raster/restored.tif"
    words = ("--engine", "upscaler", "--weights", weights, "--force")
    run("hypir", "restore", work / "raster/held_out.tif", "-o", result, *words)
    with rasterio.open(work / "raster/held_out.tif") as before, rasterio.open(result) as after:
        restored = torch.from_numpy(after.read().astype(np.float32))
        ground = before.transform * (10.0, 20.0)
        again = after.transform * (40.0, 80.0)
        moved = math.dist(ground, again) / after.transform.a
        names, crs = after.descriptions, str(after.crs)
    bicubic = F.interpolate(small[None], scale_factor=4, mode="bicubic")[0].clamp(0, 10_000)
    shown = [small.repeat_interleave(4, 1).repeat_interleave(4, 2), bicubic, restored, truth]
    low, high = truth[[3, 2, 1]].amin(), truth[[3, 2, 1]].quantile(0.995)
    panels = [((one[[3, 2, 1]] - low) / (high - low)).clamp(0, 1) for one in shown]
    save(work / "raster.png", panels)
    return {
        "train_seconds": round(seconds),
        "steps": steps,
        "bicubic": {"psnr_db": psnr(bicubic, truth), "sam_degrees": angle_degrees(bicubic, truth)},
        "ours": {"psnr_db": psnr(restored, truth), "sam_degrees": angle_degrees(restored, truth)},
        "moved_px": moved,
        "bands": names == BANDS,
        "crs": crs,
    }


def volume_walk(work: Path, steps: int) -> dict[str, Any]:
    import nibabel

    for seed in (1, 2, 3):
        write_nifti(work / f"volume/train/{seed}.nii.gz", phantom(seed), cell_mm=1.0)
    truth = phantom(9)
    small = F.avg_pool3d(truth[None, None], 2)[0, 0].round()
    write_nifti(work / "volume/held_out.nii.gz", small, cell_mm=2.0)
    weights, seconds = train("tiny_3d", work / "volume/train", work / "volume/run", steps)
    result = work / "volume/restored.nii.gz"
    words = ("--engine", "upscaler", "--weights", weights, "--force")
    run("hypir", "restore", work / "volume/held_out.nii.gz", "-o", result, *words)
    before: Any = nibabel.load(work / "volume/held_out.nii.gz")
    after: Any = nibabel.load(result)
    restored = torch.from_numpy(after.get_fdata(dtype=np.float32)).permute(2, 1, 0)
    # Voxels have their place in the middle: 10 of the small ones lies between 20 and 21 of the large ones.
    place, again = before.affine @ (10, 20, 30, 1), after.affine @ (20.5, 40.5, 60.5, 1)
    linear = F.interpolate(small[None, None], scale_factor=2, mode="trilinear")[0, 0]
    middle = truth.shape[0] // 2
    shown = [
        small.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2),
        linear,
        restored,
        truth,
    ]
    panels = [(one[middle] / 1200).clamp(0, 1).expand(3, -1, -1) for one in shown]
    save(work / "volume.png", [panel.repeat_interleave(2, 1).repeat_interleave(2, 2) for panel in panels])
    return {
        "train_seconds": round(seconds),
        "steps": steps,
        "trilinear": {"psnr_db": psnr(linear, truth)},
        "ours": {"psnr_db": psnr(restored, truth)},
        "moved_voxels": math.dist(place[:3], again[:3]),
        "shape": list(after.shape),
    }


def save(path: Path, panels: list[Tensor]) -> None:
    """Write pictures [3 h w] in [0,1] side by side: enlarged input, interpolated, ours, truth."""
    row = torch.cat(panels, 2).mul(255).round().byte().permute(1, 2, 0)
    Image.fromarray(row.numpy()).save(path)


def main() -> None:
    """Read the command line and walk."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("walks", nargs="*", default=["raster", "volume"], help="raster, volume")
    parser.add_argument("--steps", type=int, default=1500)
    given = parser.parse_args()
    known = {"raster": raster_walk, "volume": volume_walk}
    print(json.dumps({name: known[name](given.work, given.steps) for name in given.walks}, indent=1))


if __name__ == "__main__":
    main()
