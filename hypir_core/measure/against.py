"""The original implementation, timed in a process of its own, in turns with ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ..errors import ConfigError, HypirError
from .run import Result, size_name

RUNNER = Path(__file__).parents[2] / "benchmarks" / "original.py"
"""Beside the package, in a checkout of this project; it is no part of the installed package."""

ENGINE = "original"


class Original:
    """A running process that restores one picture of a given size whenever it is asked to."""

    def __init__(self, process: subprocess.Popen[str]):
        self._process = process
        self._runs: dict[tuple[int, int], list[dict[str, Any]]] = {}

    def run(self, size_px: tuple[int, int]) -> None:
        """Restore a picture (height, width) once and remember how long it took.

        Raises:
            HypirError: the process ended; what it said stands on standard error.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            print(*size_px, file=stdin, flush=True)
            answer = stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise HypirError(
                f"the original ended with code {self._process.wait()}; its own words stand above. "
                "--against wants a checkout of github.com/XPixelGroup/HYPIR with what it needs installed here"
            )
        self._runs.setdefault(size_px, []).append(json.loads(answer))

    def result(self, size_px: tuple[int, int]) -> Result:
        """Return the row of one size from the runs so far."""
        runs = self._runs[size_px]
        seconds = [run["seconds"] for run in runs]
        peaks = [run["peak_mib"] for run in runs if run["peak_mib"] is not None]
        return Result(
            engine=ENGINE,
            size=size_name(size_px),
            dtype="bfloat16",
            device=runs[0]["device"],
            seconds=round(median(seconds), 4),
            spread_seconds=round(max(seconds) - min(seconds), 4),
            all_seconds=tuple(round(s, 4) for s in seconds),
            cpu_seconds=round(median(run["cpu_seconds"] for run in runs), 4),
            peak_mib=max(peaks, default=None),
            weights="random, LoRA of rank 256 beside it",
            notes=(f"{runs[0]['tiles']} tiles of 512×512 px",),
        )


@contextmanager
def original(checkout: Path, *, device: torch.device) -> Iterator[Original]:
    """Start the original from a checkout; it ends with the block.

    Its own format (bfloat16), tiles (512 px every 256 px) and unmerged LoRA, random weights in full size.

    Raises:
        ConfigError: there is no checkout there, or this is no checkout of this project.
    """
    if not (checkout / "HYPIR").is_dir():
        raise ConfigError(f"--against: expected a checkout of XPixelGroup/HYPIR, got {checkout}")
    if not RUNNER.is_file():
        raise ConfigError(f"--against needs {RUNNER.name} from benchmarks/ in a checkout of this project")
    with subprocess.Popen(  # noqa: S603  # our own script, on a folder that the user named
        [sys.executable, RUNNER, checkout, device.type],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        try:
            yield Original(process)
        finally:
            process.terminate()
            with suppress(BrokenPipeError):  # it had ended already, and `run` has said so
                process.stdin.close()
