"""What is written down on the way, to any of TensorBoard, a CSV file and Weights & Biases."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from hypir_core.errors import MissingDependencyError

from ..config import TrackingConfig
from ..data.levels import viewable


class Tracker(Protocol):
    """Somewhere to write to."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers."""
        ...

    def picture(self, step: int, name: str, image_01: Tensor) -> None:
        """Write one picture [3 h w], [0,1]."""
        ...

    def close(self) -> None:
        """Finish writing."""
        ...


def open_trackers(
    config: TrackingConfig, run_dir: Path, *, start_step: int, settings: Any
) -> tuple[Tracker, ...]:
    """Open what `config` asks for. What an interrupted run wrote after `start_step` is dropped.

    Raises:
        MissingDependencyError: the package of a tracker is not installed.
    """
    trackers: list[Tracker] = []
    if config.tensorboard:
        trackers.append(TensorBoard(run_dir / "tensorboard", start_step))
    if config.csv:
        trackers.append(CsvFile(run_dir / "scalars.csv", start_step))
    if config.wandb:
        trackers.append(WeightsAndBiases(config.wandb, run_dir, settings))
    return tuple(trackers)


def picture_grid(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Put pictures [c h w] of any size into rows, each enlarged (nearest) to the largest of all.

    Two white pixels lie between them. Returns [3 H W], [0,1], on the CPU.
    """
    height = max(picture.shape[-2] for row in rows for picture in row)
    width = max(picture.shape[-1] for row in rows for picture in row)
    lines = []
    for row in rows:
        cells = [
            F.interpolate(viewable(p)[None].float().cpu().clamp(0, 1), (height, width), mode="nearest")[0]
            for p in row
        ]
        lines.append(torch.cat([F.pad(cell, (1, 1, 1, 1), value=1.0) for cell in cells], 2))
    return torch.cat(lines, 1)


class TensorBoard:
    """Event files for ``tensorboard --logdir``."""

    def __init__(self, folder: Path, start_step: int):
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as err:
            raise MissingDependencyError("tensorboard", "train", "tracking.tensorboard") from err
        self._writer = SummaryWriter(str(folder), purge_step=start_step + 1 if start_step else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image_01: Tensor) -> None:
        """Write one picture."""
        self._writer.add_image(name, image_01, step)
        self._writer.flush()

    def close(self) -> None:
        """Finish writing."""
        self._writer.close()


class CsvFile:
    """One line ``step,name,value`` per number; pictures are not written."""

    def __init__(self, path: Path, start_step: int):
        self._path = path
        rows: list[list[str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [
                    row for row in list(csv.reader(file))[1:] if len(row) == 3 and int(row[0]) <= start_step
                ]
        self._write([["step", "name", "value"], *rows], mode="w")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers."""
        self._write([[str(step), name, repr(float(value))] for name, value in values.items()], mode="a")

    def picture(self, step: int, name: str, image_01: Tensor) -> None:
        """Leave pictures out."""

    def close(self) -> None:
        """Do nothing: every line is already written."""

    def _write(self, rows: Sequence[Sequence[str]], *, mode: str) -> None:
        with self._path.open(mode, newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


class WeightsAndBiases:
    """A run of a Weights & Biases project."""

    def __init__(self, project: str, folder: Path, settings: Any):
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as err:
            raise MissingDependencyError("wandb", "train", "tracking.wandb") from err
        self._wandb = wandb
        self._run = wandb.init(project=project, dir=str(folder), config=settings, resume="allow")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers."""
        self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, image_01: Tensor) -> None:
        """Write one picture."""
        self._run.log({name: self._wandb.Image(image_01)}, step=step)

    def close(self) -> None:
        """Finish writing."""
        self._run.finish()


class Meter:
    """Time, samples and memory between two lines of scalars."""

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

    def read(self) -> dict[str, float]:
        """Return the figures since the last call, and start again."""
        now = time.perf_counter()
        elapsed_s = now - self._started
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
