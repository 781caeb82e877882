"""What diffusion, guidance, one-step regression and Richardson-Lucy make of noisy microscope pictures.

    uv run python -m benchmarks.microscopy [--weights FILE] [--one-step FILE] [--count 32] [-o FILE.json]
    uv run python -m benchmarks.microscopy --only-tiles --large    # one plane of 2048², 25 steps

Synthetic specimens that no network has seen, under the optics of the training (σ 1.5 px, background 0.5 electrons), with
5, 10 and 50 photons at the brightest place, written as 16-bit numbers; then under other optics (σ 2.5 px, 20 photons).
What has a strength or a number of steps gets its best one on other pictures (`--tune`). PSNR and SSIM against the light
that was really there (its peak is 1); FRC: the finest period that agrees, in pixels; χ²: 1 where noise explains the
rest. Prints a table, and JSON with `-o`. Seconds are those of one plane on this machine at this time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from hypir_core import Request, Runtime, TileWish, restore
from hypir_core.engines.pixel.built_in import BUILT_IN_PIXEL
from hypir_core.engines.pixel.load import make_pixel
from hypir_core.engines.pixel.network import PixelFile, read_pixel
from hypir_core.engines.pixel.options import PixelOptions
from hypir_core.metrics.fidelity import psnr, ssim
from hypir_core.metrics.frc import frc_resolution_px
from hypir_core.physics.data_terms import Measurement, chi_squared
from hypir_core.physics.deconvolve import richardson_lucy
from hypir_core.physics.operator import PsfOperator
from hypir_core.physics.psf import gaussian_psf
from train.config.physics import PhysicsConfig
from train.data.measured import Measured
from train.data.seeds import generator_for
from train.data.synthetic import Synthetic

GAIN, OFFSET, WHITE = 100.0, 100.0, 65535.0
"""Of the camera: numbers per electron, in the dark, and at the top."""

TRAINED_SIGMA, OTHER_SIGMA = 1.5, 2.5
RL_STEPS = (1, 2, 3, 5, 8, 12, 18, 27, 40)
WHOLE = TileWish(tile_px=4096, overlap_px=0)


@dataclass(frozen=True, eq=False)
class Plane:
    """One picture and its measurement."""

    truth: Tensor
    """[1 1 h w], 1 is the peak."""
    y_e: Tensor
    """What the camera counted, with the file's rounding."""
    photons: float
    sigma_px: float
    background_e: float

    @property
    def picture_01(self) -> Tensor:
        """As a file holds it."""
        return (self.y_e * GAIN + OFFSET) / WHITE

    @property
    def measured(self) -> Measurement:
        """As guidance and Richardson-Lucy see it, with the true point spread."""
        operator = PsfOperator(gaussian_psf((self.sigma_px,) * 2))
        return Measurement(y=self.y_e, operator=operator, background_e=self.background_e)


@dataclass(frozen=True)
class Row:
    """The means over the planes."""

    method: str
    photons: float
    sigma_px: float
    psnr_db: float
    ssim: float
    frc_px: float
    chi2: float
    seconds: float
    won: str
    """On how many planes it has a better PSNR than the sample without guidance; of tiles, how near they are to none."""


Method = Callable[[Plane], Tensor]
"""Plane → light in electrons above the background, [1 1 h w]."""


def planes(count: int, side_px: int, *, photons: float, sigma_px: float, which: str) -> list[Plane]:
    """Return pictures of the set called `which` and their measurements."""
    physics = PhysicsConfig(photons=(photons, photons), psf_sigma_px=(sigma_px, sigma_px))
    microscope, specimens = Measured(physics), Synthetic(Path(which), side_px=side_px, seed=77)
    made = []
    for index in range(count):
        truth = specimens[index]
        lq = microscope.expose(truth, generator_for(77, which, index)).lq
        y_e = lq * photons + physics.background_e
        rounded = ((y_e * GAIN + OFFSET).round().clamp(0, WHITE) - OFFSET) / GAIN
        made.append(Plane(truth[None], rounded[None], photons, sigma_px, physics.background_e))
    return made


def by_engine(file: PixelFile, *, tile: TileWish = WHOLE, **options: Any) -> Method:
    """Return restoring with the engine `pixel`."""

    def method(plane: Plane) -> Tensor:
        settings = PixelOptions(
            weights=Path("in memory"),
            gain=GAIN,
            offset_adu=OFFSET,
            psf_sigma_px=plane.sigma_px,
            **options,
        )
        engine = make_pixel(file, settings, label="in memory", dtype=torch.float32)
        made = restore(engine, plane.picture_01, Request(tile=tile, seed=1), Runtime()).image_01
        return (made * WHITE - OFFSET) / GAIN - plane.background_e

    return method


def by_richardson_lucy(steps: int) -> Method:
    """Return the classic."""
    return lambda plane: richardson_lucy(plane.measured, steps=steps)


def as_measured(plane: Plane) -> Tensor:
    """Return the measurement itself."""
    return plane.y_e - plane.background_e


def scores(
    method: Method, over: Sequence[Plane]
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return PSNR, SSIM, FRC and χ² of every plane."""
    found: tuple[list[float], ...] = ([], [], [], [])
    for plane in over:
        light = method(plane).float()
        seen = (light / plane.photons).clamp(0, 1)
        values = (
            psnr(seen, plane.truth),
            ssim(seen, plane.truth),
            frc_resolution_px(seen, plane.truth),
            chi_squared(light.clamp(min=0), plane.measured),
        )
        for numbers, value in zip(found, values, strict=True):
            numbers.append(float(value))
    return found  # pyright: ignore[reportReturnType]


def best(methods: dict[str, Method], over: Sequence[Plane]) -> tuple[str, Method]:
    """Return the method with the best mean PSNR."""
    name = max(methods, key=lambda name: fmean(scores(methods[name], over)[0]))
    return name, methods[name]


def methods_for(
    diffusion: PixelFile, one_step: PixelFile | None, tuning: Sequence[Plane]
) -> Iterator[tuple[str, Method]]:
    """Yield every method with its name, tuned on other pictures."""
    peak = tuning[0].photons
    other_optics = tuning[0].sigma_px != TRAINED_SIGMA
    yield "noisy", as_measured
    name, method = best({f"{n} steps": by_richardson_lucy(n) for n in RL_STEPS}, tuning)
    yield f"Richardson-Lucy, {name}", method
    yield "unguided", by_engine(diffusion)
    yield "unguided, ddim", by_engine(diffusion, solver="ddim")
    yield (
        "pkl s 0.8 ×1 in every step, ddim",
        by_engine(diffusion, solver="ddim", guidance="pkl", guidance_begins=0.0),
    )
    yield "pkl s 0.8 ×1, as is default", by_engine(diffusion, guidance="pkl")
    if one_step is not None:
        yield "one-step", by_engine(one_step)
        if other_optics:
            name, method = best(_guided(one_step, "pkl", repeats=(2, 5)), tuning)
            yield f"one-step + pkl, {name}", method
    yield "seed rule, pkl", by_engine(diffusion, guidance="pkl", guidance_rule="seed", guidance_strength=1.0)
    name, method = best(_l2(diffusion, peak), tuning)
    yield f"l2, {name}", method
    name, method = best(_guided(diffusion, "pkl", repeats=(1, 3)), tuning)
    yield f"pkl, {name}", method
    yield "unguided, mean of 4", by_engine(diffusion, samples=4)
    name, method = best(_guided(diffusion, "pkl", repeats=(1, 3), samples=4), tuning[:3])
    yield f"pkl, {name}, mean of 4", method
    if other_optics:
        name, method = best(_guided(diffusion, "pkl", repeats=(3, 6), samples=4, prior=True), tuning[:3])
        yield f"prior + pkl, {name}, mean of 4", method


def _guided(file: PixelFile, term: str, *, repeats: Sequence[int], **options: Any) -> dict[str, Method]:
    return {
        f"s {s:g} ×{n}": by_engine(file, guidance=term, guidance_strength=s, guidance_repeats=n, **options)
        for s in (0.4, 0.6, 0.8)
        for n in repeats
    }


def _l2(file: PixelFile, peak_e: float) -> dict[str, Method]:
    """Return both rules with strengths of their own scale: g is in electrons here, and a share for pkl."""
    found = {
        f"multiplicative s {share:g}/peak": by_engine(file, guidance="l2", guidance_strength=share / peak_e)
        for share in (0.5, 1.0, 2.0)
    }
    found |= {
        f"prox s {s:g}": by_engine(file, guidance="l2", guidance_rule="prox", guidance_strength=s)
        for s in (0.01, 0.1, 1.0)
    }
    return found


def rows(
    diffusion: PixelFile,
    one_step: PixelFile | None,
    *,
    count: int,
    tune: int,
    side_px: int,
    photons: float,
    sigma: float,
) -> Iterator[Row]:
    """Measure every method at one light and one point spread."""
    held = planes(count, side_px, photons=photons, sigma_px=sigma, which="held-out")
    tuning = planes(tune, side_px, photons=photons, sigma_px=sigma, which="tuning")
    plain: list[float] = []
    for name, method in methods_for(diffusion, one_step, tuning):
        begun = time.perf_counter()
        found = scores(method, held)
        seconds = (time.perf_counter() - begun) / count
        plain = found[0] if name == "unguided" else plain
        won = sum(a > b for a, b in zip(found[0], plain, strict=False)) if plain else 0
        yield row_of(name, held[0], found, seconds, f"{won}/{count}" if plain else "")


def tiles(file: PixelFile, side_px: int, *, steps: int, tiled: TileWish | None) -> Iterator[Row]:
    """Measure one large plane at once and in tiles, guided and not; None: in the tiles that the engine chooses.

    Behind the tiled rows stands the PSNR against the same plane at once.
    """
    (plane,) = planes(1, side_px, photons=10, sigma_px=TRAINED_SIGMA, which="large")
    for guided in ({}, {"guidance": "pkl"}):
        whole: Tensor | None = None
        for tile, what in ((WHOLE, "untiled"), (tiled or TileWish(), "in tiles")):
            begun = time.perf_counter()
            light = by_engine(file, tile=tile, steps=steps, **guided)(plane)
            seconds = time.perf_counter() - begun
            found = scores(lambda _, light=light: light, [plane])
            apart = "" if whole is None else f"{float(psnr(light / 10, whole / 10)):.0f} dB"
            whole = light if whole is None else whole
            name = f"{side_px}², {steps} steps, {what}{', pkl' if guided else ''}"
            yield row_of(name, plane, found, seconds, apart)


def row_of(name: str, plane: Plane, found: Sequence[Sequence[float]], seconds: float, won: str) -> Row:
    """Return the means of `scores` as a row."""
    psnr_db, ssim_, frc_px, chi2 = (round(fmean(values), 3) for values in found)
    return Row(
        method=name,
        photons=plane.photons,
        sigma_px=plane.sigma_px,
        psnr_db=psnr_db,
        ssim=ssim_,
        frc_px=frc_px,
        chi2=chi2,
        seconds=round(seconds, 3),
        won=won,
    )


def shown(row: Row) -> str:
    """Return one line of the table."""
    return (
        f"{row.sigma_px:4g} {row.photons:4g}  {row.method:44} {row.psnr_db:6.2f} {row.ssim:6.3f} {row.frc_px:6.2f} "
        f"{row.chi2:7.3f} {row.seconds:8.3f} {row.won:>7}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=BUILT_IN_PIXEL["built-in"])
    parser.add_argument("--one-step", type=Path, default=BUILT_IN_PIXEL["built-in-one-step"])
    parser.add_argument("--count", type=int, default=32, help="held-out planes")
    parser.add_argument("--tune", type=int, default=6, help="planes that strengths are chosen on")
    parser.add_argument("--side", type=int, default=64, help="of a plane, in pixels")
    parser.add_argument("--photons", type=float, nargs="*", default=[5, 10, 50])
    parser.add_argument("--only-trained-optics", action="store_true")
    parser.add_argument("--no-tiles", action="store_true")
    parser.add_argument("--only-tiles", action="store_true")
    parser.add_argument("--large", action="store_true", help="tiles of a plane of 2048², 25 steps")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    files = [read_pixel(path) for path in (given.weights, given.one_step)]
    files = [replace(file, net=file.net.float()) for file in files]
    conditions = [(photons, TRAINED_SIGMA) for photons in given.photons]
    conditions += [] if given.only_trained_optics else [(20.0, OTHER_SIGMA)]
    done: list[Row] = []
    print(
        "   σ  ph.  method                                        PSNR   SSIM    FRC      χ²  seconds  better"
    )
    for photons, sigma in () if given.only_tiles else conditions:
        for row in rows(
            *files, count=given.count, tune=given.tune, side_px=given.side, photons=photons, sigma=sigma
        ):
            done.append(row)
            print(shown(row), flush=True)
    large = tiles(files[0], 2048, steps=25, tiled=None)
    small = tiles(files[0], 256, steps=10, tiled=TileWish(tile_px=128, overlap_px=64))
    for row in () if given.no_tiles else large if given.large else small:
        done.append(row)
        print(shown(row), flush=True)
    if given.output:
        report = {
            "weights": [file.spec.trained_with for file in files],
            "planes": given.count,
            "side_px": given.side,
            "torch": torch.__version__,
            "rows": [asdict(row) for row in done],
        }
        given.output.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
