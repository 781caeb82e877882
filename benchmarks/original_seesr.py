"""SeeSR as its authors run it beside ours, on the same random weights, in turns on one machine.

    uv run python -m benchmarks.random_seesr_files WEIGHTS
    uv run python -m benchmarks.original_seesr CHECKOUT VENV WEIGHTS --size 1024 2048 --steps 1 2

CHECKOUT is github.com/cswry/SeeSR at 8edecc7, VENV an environment with the versions that it pins
(benchmarks/README.md), WEIGHTS as written above. The original runs in a process of its own with its own tiles and in
float32, the only format in which its command line runs on a CPU; ours in --dtype, with its defaults. A run is a new
picture of noise in memory → tags, prompt, encoder, steps, decoder, colour fix → a picture; the original reads its from
a file. Both are loaded and warmed up before. Prints a table and, with --json, a file of everything.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median

import torch

from hypir_core import load_engine, restore
from hypir_core.allocator import give_back_freed_memory, keep_freed_memory
from hypir_core.engines.base import Engine
from hypir_core.errors import HypirError
from hypir_core.measure.machine import describe_machine
from hypir_core.measure.matrix_rate import matrix_flops_per_second
from hypir_core.measure.memory import MIB, PeakMemory
from hypir_core.measure.run import Case, picture
from hypir_core.measure.work import warm_up
from hypir_core.runtime import Runtime
from hypir_core.tiling.geometry import Plane

from .random_seesr_files import RAM_FILE

PROCESS = Path(__file__).with_name("original_seesr_process.py")
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One picture, restored by one of the two."""

    who: str
    """``original`` or ``ours``."""
    size_px: int
    steps: int
    dtype: str
    seconds: float
    cpu_seconds: float
    peak_mib: int | None
    """Highest resident memory of its process, weights and all; only Linux tells it."""
    tflop: float | None = None
    """10¹² floating-point operations of encoder, steps and decoder; only ours are counted."""
    share_of_matrix_rate: float | None = None
    """`tflop` per second, of the rate of a matrix product in the same format just before."""


class Original:
    """A running process of the original."""

    def __init__(self, process: subprocess.Popen[str]):
        self._process = process

    def run(self, size_px: int, steps: int) -> Run:
        """Let it restore a picture.

        Raises:
            HypirError: it ended.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, as the missing answer tells
            print(size_px, size_px, steps, file=self._process.stdin, flush=True)
        answer = json.loads(self.answer())
        return Run(who="original", size_px=size_px, steps=steps, dtype="float32", **answer)

    def answer(self) -> str:
        """Return the next line that it prints; raises as `run`."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise HypirError(f"the original ended with code {code}; its own words stand in the file --log")
        return line


@contextmanager
def original(python: Path, checkout: Path, weights: Path, log: Path) -> Iterator[Original]:
    """Start the original; it ends with the block."""
    with tempfile.TemporaryDirectory() as folder, log.open("w") as errors:
        words = [python, PROCESS, checkout, weights, "no", folder]
        with subprocess.Popen(  # our own script, with the interpreter that the user named
            [str(word) for word in words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process:
            try:
                running = Original(process)
                running.answer()  # loaded: until then it takes twice the memory of its weights
                yield running
            finally:
                process.kill()


def ours(engine: Engine, case: Case, steps: int, *, seed: int) -> Run:
    """Restore a new picture with our engine, so that no tags are remembered."""
    size_px, dtype = case.size_px[0], getattr(torch, engine.spec.dtype)
    request, runtime = replace(case.request(), seed=seed), Runtime(tidy=give_back_freed_memory)
    warm = engine.prepare(Plane(picture(case, engine)), case.size_px, request)
    flops = sum(stage.flops for stage in warm_up(engine, warm, request, runtime))
    del warm
    rng = torch.Generator().manual_seed(seed + 1)
    image_01 = torch.rand(1, 3, *(side // case.scale for side in case.size_px), generator=rng)
    rate = matrix_flops_per_second(CPU, dtype)
    memory = PeakMemory(CPU)
    memory.start()
    start, cpu_start = time.perf_counter(), time.process_time()
    restore(engine, image_01, request, runtime)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = memory.peak_bytes()
    return Run(
        who="ours",
        size_px=size_px,
        steps=steps,
        dtype=engine.spec.dtype,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        peak_mib=None if peak is None else round(peak / MIB),
        tflop=flops / 1e12,
        share_of_matrix_rate=flops / seconds / rate,
    )


def files(weights: Path) -> Mapping[str, str]:
    """Return the options that name the written weights."""
    return {
        "base_model": str(weights / "sd-turbo"),
        "seesr": str(weights / "seesr"),
        "tagger": str(weights / RAM_FILE),
    }


def table(runs: list[Run]) -> str:
    """Return a Markdown table: medians of the runs of each size and number of steps, and their ratio."""
    lines = [
        "| result | steps | who | seconds (all) | CPU seconds | peak memory MiB | of the matrix rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for size_px, steps in sorted({(run.size_px, run.steps) for run in runs}):
        middle = {}
        for who in ("original", "ours"):
            of = [r for r in runs if (r.size_px, r.steps, r.who) == (size_px, steps, who)]
            if not of:
                continue
            middle[who] = seconds, cpu = [
                median(getattr(r, n) for r in of) for n in ("seconds", "cpu_seconds")
            ]
            each = ", ".join(f"{run.seconds:.1f}" for run in of)
            shares = [run.share_of_matrix_rate for run in of if run.share_of_matrix_rate is not None]
            share = f"{median(shares):.0%}" if shares else ""
            peak = max((run.peak_mib for run in of if run.peak_mib is not None), default="")
            label = f"{who}, {of[0].dtype}"
            lines.append(
                f"| {size_px}² | {steps} | {label} | {seconds:.1f} ({each}) | {cpu:.1f} | {peak} | {share} |"
            )
        if len(middle) == 2:
            ratios = [theirs / own for theirs, own in zip(middle["original"], middle["ours"], strict=True)]
            lines.append(f"| | | | **{ratios[0]:.1f}×** | **{ratios[1]:.1f}×** | | |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, run in turns, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path)
    parser.add_argument("venv", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--size", type=int, nargs="+", default=[1024], help="side of the result, px")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=1, help="turns of every size and number of steps")
    parser.add_argument("--dtype", default="bfloat16", help="of ours: bfloat16 or float32")
    parser.add_argument("--only-ours", action="store_true", help="leave the original out")
    parser.add_argument("--json", type=Path, help="write every run there")
    parser.add_argument("--log", type=Path, default=Path("original_seesr.log"), help="what the original says")
    given = parser.parse_args()
    keep_freed_memory()
    options = files(given.weights.resolve())
    runs: list[Run] = []
    with ExitStack() as stack:
        theirs = None
        if not given.only_ours:
            python = given.venv.absolute() / "bin" / "python"
            where = given.checkout.resolve(), given.weights.resolve()
            theirs = stack.enter_context(original(python, *where, given.log))
        for steps, size_px, seed in product(given.steps, given.size, range(given.repeats)):
            if theirs is not None:
                runs.append(theirs.run(size_px, steps))
                print(asdict(runs[-1]), flush=True)
            # Loaded only for its own turn: at 2048² the original takes 20 GiB for itself.
            engine = load_engine("seesr", {**options, "steps": steps}, device=CPU, dtype=given.dtype)
            case = Case(engine="seesr", size_px=(size_px, size_px), dtype=given.dtype, device=CPU)
            runs.append(ours(engine, case, steps, seed=seed))
            print(asdict(runs[-1]), flush=True)
            del engine
            gc.collect()
            give_back_freed_memory()
    print(table(runs))
    if given.json:
        found = {"runs": [asdict(run) for run in runs], "machine": describe_machine()}
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
