"""Peak memory of a streamed result, above the weights, and what it takes.

    uv run python benchmarks/streamed.py [SIDE] > benchmarks/results/streamed.json

A picture of (SIDE/4)² is read box by box from an uncompressed TIFF, restored by the built-in restorer at ×4 and written
as a TIFF of SIDE², strip by strip. Peak memory is the process's, above what it held with the weights loaded and a small
picture streamed. Prints JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import torch

from hypir_core import Request, Runtime, load_engine
from hypir_core.allocator import give_back_freed_memory
from hypir_core.engines.base import Engine
from hypir_core.files.sink import open_sink
from hypir_core.files.source import open_source
from hypir_core.streaming import restore_stream

MIB = 2**20


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_input(path: Path, side: int) -> None:
    pixels = tifffile.memmap(path, shape=(side, side, 3), dtype=np.uint8, photometric="rgb")
    ramp = (np.arange(side) * 255 // max(side - 1, 1)).astype(np.uint8)
    for top in range(0, side, 256):
        rows = min(256, side - top)
        noise = np.random.default_rng(top).integers(0, 64, (rows, side, 3), dtype=np.uint8)
        pixels[top : top + rows] = ramp[None, :, None] // 2 + noise
    pixels.flush()


def stream(engine: Engine, picture: Path, out: Path) -> dict[str, object]:
    start = time.perf_counter()
    runtime = Runtime(tidy=give_back_freed_memory)
    with open_source(picture) as source:
        height, width = source.sizes_px
        sink = open_sink(out, (4 * height, 4 * width), 3, force=True, bits=8)
        report = restore_stream(engine, source, sink, Request(), runtime)
        sink.commit()
    return {
        "output_px": report.output_px,
        "tiles": report.stages[0].tiles,
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 30000
    engine = load_engine("built-in", device=torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_input(folder / "small.tif", 256)
        stream(engine, folder / "small.tif", folder / "small-out.tif")
        write_input(folder / "large.tif", side // 4)
        before = peak_mib()
        done = stream(engine, folder / "large.tif", folder / "large-out.tif")
        found = {
            **done,
            "dtype": engine.spec.dtype,
            "result_as_float32_mib": round(side * side * 12 / MIB),
            "file_mib": round((folder / "large-out.tif").stat().st_size / MIB),
            "peak_above_weights_mib": round(peak_mib() - before),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
