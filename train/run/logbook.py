"""What is written down on the way: scalars between two lines of the log, and pictures."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..data.batch import Batch
from .building import Run
from .tracking import Meter, picture_grid

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Shot:
    """A batch and what the generator made of it, without gradient."""

    batch: Batch
    image_01: Tensor


@dataclass(eq=False)
class StepLog:
    """What happened between two lines of scalars; sums stay on the device until they are read."""

    meter: Meter
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    shot: Shot | None = None
    """The latest one, for the pictures."""

    def add(self, name: str, value: Tensor) -> None:
        """Count one value of `name`."""
        self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()
        self.counts[name] = self.counts.get(name, 0) + 1

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the means over the steps and processes, and the meter's figures; start again."""
        means = {name: total.float() / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        reduced: Any = accelerator.reduce(
            {name: mean.to(accelerator.device) for name, mean in means.items()}, "mean"
        )
        figures: dict[str, float] = {name: float(mean) for name, mean in reduced.items()}
        return figures | self.meter.read()


def write_scalars(run: Run, done: int, step_log: StepLog) -> None:
    """Log the means since the last call and what the generator noticed; every process calls this."""
    values = step_log.read(run.accelerator)
    values |= {
        f"lr/{name}": float(player.lr_schedule.get_last_lr()[0]) for name, player in run.players.items()
    }
    for tracker in run.trackers:
        tracker.scalars(done, values)
    if run.accelerator.is_main_process:
        left_s = (run.config.max_steps - done) * values["speed/step_s"]
        terms = "  ".join(
            f"{name.removeprefix('loss/')} {value:.5f}"
            for name, value in values.items()
            if name.startswith("loss/")
        )
        log.info(
            "step %d/%d  %s  lr %.2e  %.3f s/step (%.0f%% waiting for data)  %s left",
            *(done, run.config.max_steps, terms, values["lr/generator"], values["speed/step_s"]),
            *(100 * values["speed/waiting_for_data"], time.strftime("%Hh%Mm%Ss", time.gmtime(left_s))),
        )
        for note in run.generator.notes():
            log.warning("step %d  %s", done, note)


def write_images(run: Run, done: int, step_log: StepLog) -> None:
    """Log a grid of the latest training pairs when it is time: low quality, restored, target."""
    every, shot = run.config.tracking.images_every, step_log.shot
    if not (every and done % every == 0 and shot and run.trackers):
        return
    rows = list(zip(shot.batch.lq_01[:8], shot.image_01[:8], shot.batch.hq_01[:8], strict=True))
    for tracker in run.trackers:
        tracker.picture(done, "train/lq_restored_target", picture_grid(rows))
