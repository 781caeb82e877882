"""What is written down on the way, to any of TensorBoard, a CSV file and Weights & Biases."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from hypir_core.errors import MissingDependencyError

from ..config import TrackingConfig
from ..data.levels import viewable

WANDB_ID = "wandb_id.txt"
"""In the run folder: which run of Weights & Biases it is."""

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Somewhere to write to."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers."""
        ...

    def picture(self, step: int, name: str, image_01: Tensor) -> None:
        """Write one picture [3 h w], [0,1]."""
        ...

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Write how often values occur, of a tensor of any shape."""
        ...

    def close(self) -> None:
        """Finish writing."""
        ...


def open_trackers(config: TrackingConfig, run_dir: Path, *, start_step: int, settings: Any) -> Trackers:
    """Open what `config` asks for. What an interrupted run wrote after `start_step` is dropped.

    Raises:
        MissingDependencyError: the package of a tracker is not installed.
        ConfigError: what is there already cannot be read or written.
    """
    trackers: list[Tracker] = []
    if config.tensorboard:
        trackers.append(TensorBoard(run_dir / "tensorboard", start_step))
    if config.csv:
        trackers.append(CsvFile(run_dir / "scalars.csv", start_step))
    if config.wandb:
        trackers.append(WeightsAndBiases(config.wandb, run_dir, settings, resumed=start_step > 0))
    return Trackers(trackers)


@dataclass(eq=False)
class Trackers:
    """All trackers of a run. One that cannot write is no reason to lose a training: it is named and left out.

    A CSV file is tried again with the next line; TensorBoard's writer does not live on after an error.
    """

    trackers: list[Tracker]
    failing: set[str] = field(default_factory=set)
    """Kinds that could not write the last time."""

    def __bool__(self) -> bool:
        return bool(self.trackers)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers to each of them."""
        self._each(lambda tracker: tracker.scalars(step, values))

    def picture(self, step: int, name: str, image_01: Tensor) -> None:
        """Write one picture to each of them."""
        self._each(lambda tracker: tracker.picture(step, name, image_01))

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Write how often values occur to each of them."""
        self._each(lambda tracker: tracker.histogram(step, name, values))

    def close(self) -> None:
        """Finish writing."""
        self._each(lambda tracker: tracker.close())

    def _each(self, write: Callable[[Tracker], None]) -> None:
        for tracker in tuple(self.trackers):
            kind = type(tracker).__name__
            try:
                write(tracker)
                self.failing.discard(kind)
            except OSError as err:
                again = isinstance(tracker, CsvFile)
                if kind not in self.failing:
                    what = "it is tried again with every line" if again else "nothing more is written to it"
                    log.warning(
                        "tracking: %s cannot be written (%s); training goes on, %s; free space there",
                        *(kind, err.strerror or err, what),
                    )
                self.failing.add(kind)
                if not again:
                    self.trackers.remove(tracker)


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

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Write a histogram."""
        self._writer.add_histogram(name, values, step)

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
                # A line that a full disk cut short is left out.
                rows = [
                    row
                    for row in list(csv.reader(file))[1:]
                    if len(row) == 3 and row[0].isdecimal() and int(row[0]) <= start_step
                ]
        self._write([["step", "name", "value"], *rows], mode="w")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers."""
        self._write([[str(step), name, repr(float(value))] for name, value in values.items()], mode="a")

    def picture(self, step: int, name: str, image_01: Tensor) -> None:
        """Leave pictures out."""

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Leave histograms out."""

    def close(self) -> None:
        """Do nothing: every line is already written."""

    def _write(self, rows: Sequence[Sequence[str]], *, mode: str) -> None:
        with self._path.open(mode, newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


class WeightsAndBiases:
    """A run of a Weights & Biases project; a resumed training goes on with the same one."""

    def __init__(self, project: str, folder: Path, settings: Any, *, resumed: bool):
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as err:
            raise MissingDependencyError("wandb", "track", "tracking.wandb") from err
        self._wandb = wandb
        remembered = folder / WANDB_ID
        known = remembered.read_text(encoding="utf-8").strip() if resumed and remembered.exists() else None
        self._run = wandb.init(project=project, dir=str(folder), config=settings, id=known, resume="allow")
        if self._run.id != known:
            remembered.write_text(f"{self._run.id}\n", encoding="utf-8")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers."""
        self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, image_01: Tensor) -> None:
        """Write one picture."""
        self._run.log({name: self._wandb.Image(image_01)}, step=step)

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Write a histogram."""
        self._run.log({name: self._wandb.Histogram(values.flatten().tolist())}, step=step)

    def close(self) -> None:
        """Finish writing."""
        self._run.finish()
