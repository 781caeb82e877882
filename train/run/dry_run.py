"""``--dry-run``: everything is built and one pass is made, so that what a run needs is known before it starts."""

from __future__ import annotations

import torch

from ..config import TrainConfig
from .building import Run, build
from .logbook import StepLog
from .memory import count_kept, gib
from .meter import Meter
from .start_message import held_bytes, start_lines


def dry_run(config: TrainConfig) -> list[str]:
    """Build the run, make one step of every network, and return the lines that say what it takes.

    Nothing is written: the run folder and its checkpoints stay as they are.

    Raises:
        HypirError: what the training itself would raise before or in its first step.
    """
    run = build(config, write=False)
    lines = [*start_lines(run), *_measured(run)]
    return lines if run.accelerator.is_main_process else []


def _measured(run: Run) -> list[str]:
    """Make one step, which moves the networks in memory only, and say what it took."""
    from .recipe import discriminator_step, generator_step

    device = run.accelerator.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    step_log = StepLog(Meter(device))
    step = max(run.start, *(rival.config.ramp.start for rival in run.rivals), 0) if run.rivals else run.start
    weights = [p for player in run.players.values() for p in player.module.parameters()]
    with count_kept(weights) as kept:
        generated = generator_step(run, step, step_log)
    activations = kept.peak_bytes
    for rival in run.rivals:
        with count_kept(weights) as kept:
            discriminator_step(run, rival, step, generated, step_log)
        activations = max(activations, kept.peak_bytes)
    step_log.meter.step_done()
    figures = step_log.read(run.accelerator)
    lines = [
        f"activations {gib(activations)} are kept for a backward pass",
        f"expected    {gib(held_bytes(run) + activations)} in all, without what the libraries need for themselves",
    ]
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        lines.append(f"measured    {gib(peak)} of GPU memory at the peak of the first step")
    terms = (
        f"{name.removeprefix('loss/')} {value:.4g}" for name, value in figures.items() if "loss/" in name
    )
    lines.append(f"first step  {figures['speed/step_s']:.1f} s (later ones are quicker)  {'  '.join(terms)}")
    return lines
