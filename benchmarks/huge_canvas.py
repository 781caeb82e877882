"""Peak memory of a 16384×16384 output of a cheap stage, above its input and output buffers.

    uv run python benchmarks/huge_canvas.py [SIDE] > benchmarks/results/huge_canvas.json

A ×4 nearest-neighbour stage runs tile by tile over a picture of (SIDE/4)²; then the wavelet colour fix passes over
the result in blocks, its reference resized on demand. Prints JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import torch
from torch.nn import functional as F

from hypir_core.color.fix import apply_color_fix_
from hypir_core.color.mode import ColorFix
from hypir_core.image.resize import resize_part
from hypir_core.runtime import Runtime
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileConfig
from hypir_core.tiling.run import run_stage
from hypir_core.tiling.stage import Stage

MIB = 2**20


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 16384
    image = torch.rand(1, 3, side // 4, side // 4)
    stage = Stage(
        name="enlarge",
        run=lambda tile, _: F.interpolate(tile, scale_factor=4, mode="nearest"),
        out_channels=3,
        out_strides=1,
        grain_px=4,
        bytes_per_px=24.0,
        tile=TileConfig(),
    )
    before = peak_mib()
    start = time.perf_counter()
    out, report = run_stage(stage, Plane(image, 4), runtime=Runtime())
    stage_seconds = time.perf_counter() - start
    output_mib = out.data.nbytes / MIB
    after_stage = peak_mib()
    start = time.perf_counter()
    apply_color_fix_(
        out.data,
        lambda y0, y1, x0, x1: resize_part(image, (side, side), (y0, y1), (x0, x1)),
        mode=ColorFix.wavelet,
        strength=1.0,
    )
    color_seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "side_px": side,
                "tiles": report.tiles,
                "input_mib": round(image.nbytes / MIB),
                "output_mib": round(output_mib),
                "stage_extra_mib": round(after_stage - before - output_mib),
                "color_fix_extra_mib": round(peak_mib() - before - output_mib),
                "stage_seconds": round(stage_seconds, 1),
                "color_fix_seconds": round(color_seconds, 1),
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
