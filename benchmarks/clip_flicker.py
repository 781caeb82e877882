"""How much a noisy clip flickers before and after restoring, frame by frame and as a clip.

    uv run benchmarks/clip_flicker.py [--frames 8] [--noise 0.04] [--steady 0.8]

Flicker is `hypir_core.metrics.flicker`: mean absolute differences of neighbouring frames.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from hypir_core.clip.walk import USUAL_STEADY, Clip
from hypir_core.engines.catalog import load_engine
from hypir_core.files.picture import to_planes
from hypir_core.files.reading import read_picture
from hypir_core.image.resize import resize
from hypir_core.metrics.flicker import flicker
from hypir_core.pipeline import restore
from hypir_core.request import Request
from hypir_core.runtime import Runtime
from hypir_core.tiling.plan import TileWish

PHOTO = Path(__file__).parents[1] / "hypir_core" / "examples" / "astronaut.jpg"


def noisy_clip(frames: int, noise: float, *, step_px: int, side_px: int = 128) -> list[torch.Tensor]:
    """Return a photograph, shrunk, that moves by `step_px` a frame, with other noise in every frame."""
    photo, _alpha = to_planes(read_picture(PHOTO))
    small = resize(photo, (side_px, side_px + step_px * frames)).clamp(0, 1)
    draw = torch.Generator().manual_seed(0)
    clip = [small[..., step_px * i : step_px * i + side_px] for i in range(frames)]
    return [(frame + noise * torch.randn(frame.shape, generator=draw)).clamp(0, 1) for frame in clip]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--noise", type=float, default=0.04)
    parser.add_argument("--steady", type=float, default=USUAL_STEADY)
    parser.add_argument("--engine", default="built-in")
    asked = parser.parse_args()
    engine = load_engine(asked.engine, device=torch.device("cpu"))
    request, runtime = Request(tile=TileWish(tile_px=256)), Runtime()

    def some(of, frames):
        return restore(of, frames, request, runtime).image_01

    print(
        f"{asked.engine}, {asked.frames} frames, noise {asked.noise:g}; changes ÷ those of the resized input"
    )
    print(f"{'':28} {'result':>8} {'residual':>8}")
    for shot, step_px in (("still", 0), ("pan", 2)):
        clip = noisy_clip(asked.frames, asked.noise, step_px=step_px)
        rows = {"frame by frame": [some(engine, frame) for frame in clip]}
        for steady in (0.0, asked.steady):
            rows[f"a clip, steady {steady:g}"] = list(Clip(engine, steady=steady).restored(clip, some))
        for name, made in rows.items():
            found = flicker(zip(clip, made, strict=True))
            print(f"{shot:5} {name:22} {found.restored_ratio:8.2f} {found.ratio:8.2f}")


if __name__ == "__main__":
    main()
