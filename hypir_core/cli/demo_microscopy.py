"""``hypir demo --microscopy``: specimens made from numbers, measured with few photons, restored in three ways."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from . import console

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..engines.base import Engine

SIDE_PX = 128
PHOTONS = 10.0
SIGMA_PX, BACKGROUND_E = 1.5, 0.5
GAIN, OFFSET_ADU, WHITE = 100.0, 100.0, 65535.0
"""Of the camera: numbers per electron, in the dark, and at the top."""

RL_STEPS = range(1, 41)
SHOWN_TIMES = 3
"""Pixels of a specimen are shown so many times as large."""

OPTIONS = {"gain": GAIN, "offset_adu": OFFSET_ADU}
DIFFUSION = {**OPTIONS, "weights": "built-in", "guidance": "pkl", "samples": 4}
ONE_STEP = {**OPTIONS, "weights": "built-in-one-step"}


@dataclass(frozen=True, eq=False)
class Specimen:
    """What is there, and what the camera wrote of it."""

    truth: Tensor
    """[1 1 h w], 1 is the brightest."""
    picture_01: Tensor
    """As a 16-bit file holds it."""

    @property
    def electrons(self) -> Tensor:
        """What was counted above the background."""
        return (self.picture_01 * WHITE - OFFSET_ADU) / GAIN - BACKGROUND_E


def microscopy_demo(out: Path, device: torch.device) -> None:
    """Write every specimen as measured, restored and compared, and a table of how near each came to the truth."""
    from ..engines.catalog import load_engine
    from ..files.writing import write_picture
    from ..image.compare import compare_row
    from ..metrics.fidelity import psnr
    from ..physics.specimens import SPECIMENS
    from ..pipeline import restore
    from ..request import Request
    from ..runtime import Runtime

    engines: dict[str, Engine] = {
        name: load_engine("pixel", options, device=device)
        for name, options in (("diffusion, mean of 4", DIFFUSION), ("one step", ONE_STEP))
    }
    table = Table("specimen", "noisy", "Richardson-Lucy", *engines, "seconds")
    with console.bars() as bars:
        runtime = Runtime(device=device, progress=console.tick_of(bars))
        compared = []
        for number, kind in enumerate(SPECIMENS):
            bars.start(kind)
            made = specimen_of(kind, seed=number)
            write_picture(out / f"{kind}-measured.png", made.picture_01, format_name="png", force=True)
            found = {"noisy": made.electrons, "Richardson-Lucy": best_richardson_lucy(made)}
            seconds = 0.0
            for name, engine in engines.items():
                restored = restore(engine, made.picture_01, Request(seed=number), runtime)
                write_picture(
                    out / f"{kind}-{name.split(',')[0].replace(' ', '-')}.png", restored.image_01, force=True
                )
                found[name] = Specimen(made.truth, restored.image_01.cpu()).electrons
                seconds += restored.report.seconds
            light = {name: (each / PHOTONS).clamp(0, 1) for name, each in found.items()}
            shown = {name: _large(each) for name, each in (light | {"truth": made.truth}).items()}
            compared.append(out / f"{kind}-compare.png")
            write_picture(
                compared[-1],
                compare_row(list(shown.values()), labels=list(shown)),
                force=True,
            )
            scores = [f"{float(psnr(each, made.truth)):.2f} dB" for each in light.values()]
            table.add_row(kind, *scores, f"{seconds:.1f}")
    console.out.print(table)
    console.tell(
        f"{PHOTONS:g} photons at the brightest place, a point spread of σ {SIGMA_PX:g} px; Richardson-Lucy is stopped "
        "where it is best, which only a demo can know. Shown as the root of the light: "
        f"{', '.join(map(str, compared))}"
    )


def specimen_of(kind: str, *, seed: int) -> Specimen:
    """Make a specimen and measure it."""
    import torch

    from ..physics.camera import Camera
    from ..physics.operator import PsfOperator
    from ..physics.psf import gaussian_psf
    from ..physics.specimens import specimen

    generator = torch.Generator().manual_seed(seed)
    truth = specimen(kind, SIDE_PX, generator)[None]
    expected = PsfOperator(gaussian_psf((SIGMA_PX, SIGMA_PX))).A(truth * PHOTONS) + BACKGROUND_E
    written = Camera(gain=GAIN, offset_adu=OFFSET_ADU).expose(expected, generator)
    return Specimen(truth, written / WHITE)


def best_richardson_lucy(made: Specimen) -> Tensor:
    """Return the classic after as many steps as bring it nearest to the truth."""
    from ..metrics.fidelity import psnr
    from ..physics.data_terms import Measurement
    from ..physics.deconvolve import richardson_lucy
    from ..physics.operator import PsfOperator
    from ..physics.psf import gaussian_psf

    measured = Measurement(
        y=made.electrons + BACKGROUND_E,
        operator=PsfOperator(gaussian_psf((SIGMA_PX, SIGMA_PX))),
        background_e=BACKGROUND_E,
    )
    estimate, tried = None, []
    for _ in RL_STEPS:
        estimate = richardson_lucy(measured, steps=1, start=estimate)
        tried.append(estimate)
    return max(tried, key=lambda x: float(psnr((x / PHOTONS).clamp(0, 1), made.truth)))


def _large(light: Tensor) -> Tensor:
    """Return light as it is shown: the root of it, every pixel as a square."""
    return light.sqrt().repeat_interleave(SHOWN_TIMES, -1).repeat_interleave(SHOWN_TIMES, -2)
