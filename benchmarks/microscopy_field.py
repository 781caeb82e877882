"""Others on the same measurements: deepinv's DPS and DiffPIR with our network, scikit-image's Richardson-Lucy.

    uv run --with deepinv --with scikit-image python -m benchmarks.microscopy_field [--count 32] [-o FILE.json]

The specimens, optics and figures are those of `benchmarks.microscopy`; what has a strength or a number of steps gets
its best one on other pictures (`--tune`). deepinv (tried with 0.5.0) is no dependency of this project: `--with` gets it
for this run alone. Its methods know Gaussian noise: they are told the mean variance of the counts. The network is the
same in all of them, as a prior, or told the measurement; DPS takes gradients through it. Prints a table, and JSON with
`-o`. Seconds are those of one plane on this machine at this time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from hypir_core.diffusion.prediction import predict_x0
from hypir_core.diffusion.schedule import a_bars64
from hypir_core.engines.pixel.built_in import BUILT_IN_PIXEL
from hypir_core.engines.pixel.network import PixelFile, build_schedule, read_pixel
from hypir_core.physics.condition import condition_of, light_range
from hypir_core.physics.psf import gaussian_psf
from train.tasks.denoising import timestep_of

from .microscopy import (
    OTHER_SIGMA,
    RL_STEPS,
    TRAINED_SIGMA,
    Method,
    Plane,
    Row,
    as_measured,
    best,
    by_engine,
    by_richardson_lucy,
    planes,
    row_of,
    scores,
    shown,
)


@dataclass(frozen=True, eq=False)
class Denoiser:
    """Our network as deepinv asks it: noisy pictures near [0,1] and σ → clean ones."""

    file: PixelFile
    told: Tensor
    """Of the measurement, or zeros."""

    def module(self) -> Any:
        """Return it as a module of deepinv's own kind."""
        from deepinv.models import Denoiser as Base

        file, told = self.file, self.told
        curve = a_bars64(build_schedule(file.spec, where="in memory").as_schedule())

        class Ours(Base):
            def forward(self, x: Tensor, sigma: float | Tensor, **_: Any) -> Tensor:
                sigma_pm1 = 2 * torch.as_tensor(sigma, dtype=torch.float64).reshape(-1)[0]
                a_bar = (1 / (1 + sigma_pm1**2)).clamp(float(curve[-1]), float(curve[0]))
                t = float(timestep_of(a_bar[None], curve)[0])
                x_t = (float(a_bar) ** 0.5 * (2 * x - 1)).float()
                predicted = file.net(torch.cat([x_t, told.expand(len(x_t), -1, -1, -1)], 1), t)
                x0 = predict_x0(x_t, predicted, a_bar=float(a_bar), kind=file.spec.prediction)
                return ((x0 + 1) / 2).to(x)

        return Ours()


@dataclass(frozen=True, eq=False)
class Problem:
    """One measurement in the units of deepinv: the network's black is 0 and its white 1."""

    y_01: Tensor
    sigma_01: float
    """Of noise that is the same everywhere, with the mean variance of the counts."""
    black_e: float
    span_e: float
    told: Tensor

    @classmethod
    def of(cls, plane: Plane, file: PixelFile, *, prior: bool) -> Problem:
        """Return the problem of a plane."""
        units = light_range(file.spec.value_range, plane.y_e, background_e=plane.background_e)
        black, span = units.middle[0] - units.width[0], 2 * units.width[0]
        told = condition_of(plane.y_e, units, background_e=plane.background_e)
        return cls(
            y_01=(plane.y_e - plane.background_e - black) / span,
            sigma_01=float(plane.y_e.mean().clamp(min=plane.background_e)) ** 0.5 / span,
            black_e=black,
            span_e=span,
            told=torch.zeros_like(told) if prior else told,
        )

    def physics(self, sigma_px: float) -> Any:
        """Return deepinv's microscope."""
        import deepinv

        psf = gaussian_psf((sigma_px,) * 2).float()[None, None]
        noise = deepinv.physics.GaussianNoise(self.sigma_01)
        return deepinv.physics.Blur(filter=psf, padding="reflect", noise_model=noise)

    def light(self, x_01: Tensor) -> Tensor:
        """Return electrons above the background."""
        return x_01.detach().float() * self.span_e + self.black_e


def by_diffpir(file: PixelFile, *, steps: int, strength: float, prior: bool) -> Method:
    """Return restoring with deepinv's DiffPIR (Zhu et al., arXiv 2305.08995); a larger λ trusts the network more."""

    def method(plane: Plane) -> Tensor:
        import deepinv

        problem = Problem.of(plane, file, prior=prior)
        model = deepinv.sampling.DiffPIR(
            model=Denoiser(file, problem.told).module(),
            data_fidelity=deepinv.optim.data_fidelity.L2(),
            sigma=problem.sigma_01,
            max_iter=steps,
            lambda_=strength,
        )
        return problem.light(model(problem.y_01, problem.physics(plane.sigma_px), seed=1))

    return method


def by_dps(file: PixelFile, *, steps: int, weight: float, prior: bool) -> Method:
    """Return restoring with deepinv's DPS (Chung et al., arXiv 2209.14687)."""

    def method(plane: Plane) -> Tensor:
        import deepinv

        problem = Problem.of(plane, file, prior=prior)
        model = deepinv.sampling.DPS(
            Denoiser(file, problem.told).module(),
            num_steps=steps,
            weight=weight,
            dtype=torch.float32,
            rng=torch.Generator().manual_seed(1),
        )
        return problem.light(model(problem.y_01, problem.physics(plane.sigma_px)))

    return method


def by_skimage(steps: int) -> Method:
    """Return scikit-image's Richardson-Lucy, which knows no background: it is taken away before."""

    def method(plane: Plane) -> Tensor:
        from skimage.restoration import richardson_lucy

        light = (plane.y_e - plane.background_e).clamp(min=0)[0, 0].double().numpy()
        psf = gaussian_psf((plane.sigma_px,) * 2).numpy()
        made = richardson_lucy(light, psf, num_iter=steps, clip=False, filter_epsilon=1e-6)
        return torch.from_numpy(made).float()[None, None]

    return method


def methods(
    diffusion: PixelFile, one_step: PixelFile, tuning: Sequence[Plane], *, dps_steps: int
) -> Iterator[tuple[str, Method]]:
    """Yield every method with its name, tuned on other pictures."""
    yield "measured", as_measured
    name, method = best({f"{n} steps": by_skimage(n) for n in RL_STEPS}, tuning)
    yield f"scikit-image, Richardson-Lucy, {name}", method
    name, method = best({f"{n} steps": by_richardson_lucy(n) for n in RL_STEPS}, tuning)
    yield f"ours, Richardson-Lucy, {name}", method
    for prior in (True, False):
        told = "prior" if prior else "told"
        tried = {
            f"λ {s:g}": by_diffpir(diffusion, steps=20, strength=s, prior=prior)
            for s in (0.1, 0.5, 2.0, 7.0, 25.0)
        }
        name, method = best(tried, tuning)
        yield f"deepinv DiffPIR, {told}, 20 steps, {name}", method
        tried = {
            f"weight {w:g}": by_dps(diffusion, steps=dps_steps, weight=w, prior=prior)
            for w in (0.1, 0.3, 1.0)
        }
        name, method = best(tried, tuning)
        yield f"deepinv DPS, {told}, {dps_steps} steps, {name}", method
        tried = {
            f"s {s:g} ×{n}": by_engine(
                diffusion, guidance="pkl", guidance_strength=s, guidance_repeats=n, prior=prior
            )
            for s, n in ((0.8, 1), (0.8, 3), (0.8, 6))
        }
        name, method = best(tried, tuning)
        yield f"ours, pkl, {told}, 20 steps, {name}", method
    yield "ours, one step", by_engine(one_step)


def rows(args: argparse.Namespace, files: Sequence[PixelFile], photons: float, sigma: float) -> Iterator[Row]:
    """Measure every method at one light and one point spread."""
    held, tuning = (
        planes(count, args.side, photons=photons, sigma_px=sigma, which=which)
        for count, which in ((args.count, "held-out"), (args.tune, "tuning"))
    )
    for name, method in methods(files[0], files[1], tuning, dps_steps=args.dps_steps):
        begun = time.perf_counter()
        found = scores(method, held)
        yield row_of(name, held[0], found, (time.perf_counter() - begun) / len(held), "")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=BUILT_IN_PIXEL["built-in"])
    parser.add_argument("--one-step", type=Path, default=BUILT_IN_PIXEL["built-in-one-step"])
    parser.add_argument("--count", type=int, default=32, help="held-out planes")
    parser.add_argument("--tune", type=int, default=4, help="planes that strengths are chosen on")
    parser.add_argument("--side", type=int, default=64, help="of a plane, in pixels")
    parser.add_argument("--photons", type=float, nargs="+", default=[5, 10, 50])
    parser.add_argument("--dps-steps", type=int, default=100)
    parser.add_argument("--only-trained-optics", action="store_true")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    files = [read_pixel(path) for path in (args.weights, args.one_step)]
    files = [replace(file, net=file.net.float()) for file in files]
    conditions = [(photons, TRAINED_SIGMA) for photons in args.photons]
    conditions += [] if args.only_trained_optics else [(20.0, OTHER_SIGMA)]
    done: list[Row] = []
    print("   σ  ph.  method                                        PSNR   SSIM    FRC      χ²  seconds")
    for photons, sigma in conditions:
        for row in rows(args, files, photons, sigma):
            done.append(row)
            print(shown(row), flush=True)
    if args.output:
        report = {
            "deepinv": version("deepinv"),
            "scikit-image": version("scikit-image"),
            "torch": torch.__version__,
            "planes": args.count,
            "side_px": args.side,
            "mean_seconds": round(fmean(row.seconds for row in done), 3),
            "rows": [asdict(row) for row in done],
        }
        args.output.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
