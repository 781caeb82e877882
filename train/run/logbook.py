"""What is written down on the way: scalars between two lines of the log, and pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..data.viewing import for_screen
from ..discriminators import Logits
from ..tasks import Attempt
from .building import Run
from .meter import Meter, length_of_time
from .tracking import picture_grid

log = logging.getLogger(__name__)


@dataclass(eq=False)
class StepLog:
    """What happened between two lines of scalars; sums stay on the device until they are read."""

    meter: Meter
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    latest: Attempt | None = None
    """For the pictures."""
    logits: dict[str, Logits] = field(default_factory=dict)
    """The latest of every discriminator, for histograms."""

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


def write_scalars(run: Run, done: int, step_log: StepLog) -> dict[str, float]:
    """Log and return the means since the last call, log what the generator noticed; every process calls this."""
    values = step_log.read(run.accelerator)
    values |= {
        f"lr/{name}": float(player.lr_schedule.get_last_lr()[0]) for name, player in run.players.items()
    }
    run.trackers.scalars(done, values)
    if run.accelerator.is_main_process:
        left_s = (run.config.max_steps - done) * values["speed/step_s"]
        log.info(
            "step %d/%d  %s  lr %.2e  %.3f s/step (%.0f%% waiting for data)  %s  %s left",
            *(done, run.config.max_steps, weighted_terms(values), values["lr/generator"]),
            *(values["speed/step_s"], 100 * values["speed/waiting_for_data"], memory_text(values)),
            length_of_time(left_s),
        )
        for note in run.generator.notes():
            log.warning("step %d  %s", done, note)
    return values


def weighted_terms(values: Mapping[str, float]) -> str:
    """Return the generator's loss and what each term puts into it, weighted, as one text."""
    parts = (
        f"{name.removeprefix('weighted/')} {value:.4g}"
        for name, value in values.items()
        if name.startswith("weighted/")
    )
    total = f"loss {values['loss/total']:.4g} = " if "loss/total" in values else ""
    return total + " + ".join(parts)


def memory_text(values: Mapping[str, float]) -> str:
    """Return the largest memory so far, of the GPU where there is one."""
    gpu = "memory/peak_gpu_mib"
    mib = values.get(gpu, values["memory/peak_ram_mib"])
    return f"{mib / 1024:.1f} GiB {'GPU' if gpu in values else 'RAM'}"


def write_images(run: Run, done: int, step_log: StepLog) -> None:
    """Log a grid of the latest training pairs when it is time: low quality, restored, target."""
    every, latest = run.config.tracking.images_every, step_log.latest
    if not (every and done % every == 0 and latest and latest.compared and run.trackers):
        return
    image = run.task.values.undo(latest.compared.image[:8])
    bands, bounded = run.config.tracking.bands, run.config.data.bounded
    rows = [
        for_screen(each, bands=bands, bounded=bounded)
        for each in zip(latest.batch.lq[:8], image, latest.batch.hq[:8], strict=True)
    ]
    run.trackers.picture(done, "train/lq_restored_target", picture_grid(rows))


def write_histograms(run: Run, done: int, step_log: StepLog) -> None:
    """Log the latest results and targets, band by band, and the discriminators' logits, when it is time."""
    every, latest = run.config.tracking.histograms_every, step_log.latest
    if not (every and done % every == 0 and latest and latest.compared and run.trackers):
        return
    for what, values in (("restored", latest.compared.image), ("target", latest.compared.target)):
        for band, part in enumerate(values.detach().float().cpu().unbind(1)):
            run.trackers.histogram(done, f"values/{what}_{band}", part[torch.isfinite(part)])
    for name, levels in step_log.logits.items():
        part = torch.cat([level.float().cpu().flatten() for level in levels])
        run.trackers.histogram(done, f"logits/{name}", part[torch.isfinite(part)])
