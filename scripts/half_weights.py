"""Write a diffusion model of pixels in half the bytes: float16, with the same spec.

uv run python scripts/half_weights.py runs/microscopy/generator_ema.safetensors microscopy.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hypir_core.engines.pixel.network import read_pixel, save_pixel


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    file = read_pixel(given.weights)
    save_pixel(given.output, {name: each.half() for name, each in file.net.state_dict().items()}, file.spec)
    print(f"{given.output}: {given.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
