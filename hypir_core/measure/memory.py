"""Peak memory of a piece of work, above what was there before it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from ..allocator import give_back_freed_memory

MIB = 2**20

_PROC = Path("/proc/self")
_MEMINFO = Path("/proc/meminfo")


class PeakMemory:
    """Measures the peak from `start` on.

    On CUDA it is what torch allocated. On a CPU it is the process's resident memory as the kernel counts it,
    which only Linux can count anew; elsewhere there is no figure.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._before: int | None = None

    def start(self) -> None:
        """Give back what the allocators keep, and count from here."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        elif self._device.type == "cpu" and sys.platform == "linux":
            give_back_freed_memory()
            (_PROC / "clear_refs").write_text("5")  # proc(5): resets the peak resident set
            self._before = _status_bytes("VmRSS")

    def above_start_bytes(self) -> int | None:
        """Return the peak since `start` above what was held then; None where it cannot be measured."""
        peak = self.peak_bytes()
        return None if peak is None or self._before is None else max(0, peak - self._before)

    def peak_bytes(self) -> int | None:
        """Return the peak since `start`, weights and all; None where it cannot be measured."""
        if self._before is None:
            return None
        on_gpu = self._device.type == "cuda"
        return torch.cuda.max_memory_allocated(self._device) if on_gpu else _status_bytes("VmHWM")


def free_ram_bytes() -> int | None:
    """Return the memory that can be had without swapping, as Linux counts it; None elsewhere."""
    return _kilobytes(_MEMINFO, "MemAvailable") if sys.platform == "linux" else None


def _status_bytes(key: str) -> int:
    return _kilobytes(_PROC / "status", key)


def _kilobytes(path: Path, key: str) -> int:
    lines = path.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
