"""How much memory each profile of SeeSR takes, and how long: each in a process of its own, so that none inherits.

    uv run python -m benchmarks.profile_memory WEIGHTS --size 2048 [--profiles speed memory …] [--device cpu]

WEIGHTS as `random_seesr_files` writes them, or with real weights at the same places; the numbers in them do not matter.
On a CPU the peak is the resident memory of the whole process, weights and all; on CUDA what torch allocated. Before it
is counted, the engine is loaded: "loaded" is what lies there then. Prints a Markdown table; --json keeps all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hypir_core import Runtime, load_engine, pick_device, restore
from hypir_core.allocator import give_back_freed_memory, keep_freed_memory
from hypir_core.image.size import TargetSize
from hypir_core.measure.machine import describe_machine
from hypir_core.measure.matrix_rate import synchronize
from hypir_core.measure.memory import MIB, PeakMemory
from hypir_core.profile import load_profile, profile_names

from .original_seesr import files

ENGINE, SCALE = "seesr", 4


def measure(name: str, weights: Path, size_px: int, device_name: str) -> dict[str, Any]:
    """Restore a square of noise with a profile, and return what it took; meant for a process of its own."""
    device = pick_device(device_name)
    keep_freed_memory()
    part = load_profile(name).part(ENGINE, name=name)
    options = {**files(weights), **part.options}
    engine = load_engine(ENGINE, options, device=device, dtype=part.runtime.dtype_on(device))
    request = replace(part.wish(), target=TargetSize(scale=SCALE))
    runtime = Runtime(
        device=device,
        batch_tiles=part.runtime.batch_tiles,
        memory_budget_bytes=part.runtime.budget_on(device),
        tidy=give_back_freed_memory,
    )
    side = size_px // SCALE
    image_01 = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    memory = PeakMemory(device)
    memory.start()
    loaded = memory.peak_bytes()
    start = time.perf_counter()
    report = restore(engine, image_01, request, runtime).report
    synchronize(device)
    seconds, peak = time.perf_counter() - start, memory.peak_bytes()
    return {
        "profile": name,
        "size_px": size_px,
        "dtype": report.dtype,
        "device": report.device,
        "seconds": round(seconds, 1),
        "loaded_mib": None if loaded is None else round(loaded / MIB),
        "peak_mib": None if peak is None else round(peak / MIB),
        "stages": {stage.name: stage.tiles for stage in report.stages},
    }


def main() -> None:
    """Read the command line; start a process per profile, or be one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("--size", type=int, default=2048, help="side of the result, px")
    parser.add_argument("--profiles", nargs="+", default=list(profile_names()))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write everything there")
    parser.add_argument("--here", action="store_true", help="one profile in this process, as JSON")
    given = parser.parse_args()
    if given.here:
        found = measure(given.profiles[0], given.weights.resolve(), given.size, given.device)
        print(json.dumps(found))
        return
    rows = []
    print("| profile | format | seconds | loaded MiB | peak MiB |", "|---|---|---|---|---|", sep="\n")
    for name in given.profiles:
        words = [sys.executable, "-m", __spec__.name, given.weights, "--here", "--profiles", name]
        words += ["--size", given.size, "--device", given.device]
        done = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, text=True, check=True)
        rows.append(row := json.loads(done.stdout.splitlines()[-1]))
        print("| {profile} | {dtype} | {seconds} | {loaded_mib} | {peak_mib} |".format(**row), flush=True)
    if given.json:
        found = {"rows": rows, "machine": describe_machine()}
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
