"""Time, samples and memory between two lines of the log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Meter:
    """Time, samples and memory between two lines of scalars; what is done `apart` does not count."""

    def __init__(self, device: torch.device):
        self._device = device
        self._started = time.perf_counter()
        self._steps = self._samples = 0
        self._waited_s = 0.0

    def add(self, *, samples: int, waited_s: float) -> None:
        """Count one batch: its samples, and the seconds it was waited for."""
        self._samples += samples
        self._waited_s += waited_s

    def step_done(self) -> None:
        """Count one step of the loop."""
        self._steps += 1

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Leave out the time inside the block: validation and checkpoints are no steps."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._started += time.perf_counter() - began

    def read(self) -> dict[str, float]:
        """Return the figures since the last call, and start again."""
        now = time.perf_counter()
        elapsed_s = max(now - self._started, 1e-9)
        figures = {
            "speed/step_s": elapsed_s / self._steps,
            "speed/samples_per_s": self._samples / elapsed_s,
            "speed/waiting_for_data": self._waited_s / elapsed_s,
            "memory/peak_ram_mib": _peak_ram_bytes() / 2**20,
        }
        if self._device.type == "cuda":
            figures["memory/peak_gpu_mib"] = torch.cuda.max_memory_allocated(self._device) / 2**20
        self._started, self._steps, self._samples, self._waited_s = now, 0, 0, 0.0
        return figures


def _peak_ram_bytes() -> int:
    """Return the largest resident size of this process; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def length_of_time(seconds: float) -> str:
    """Return a time as a person reads it: 45s, 12m05s, 3h20m, 2d04h."""
    whole = max(0, round(seconds))
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d{h:02d}h"
    if hours:
        return f"{hours}h{m:02d}m"
    return f"{minutes}m{s:02d}s" if minutes else f"{s}s"
