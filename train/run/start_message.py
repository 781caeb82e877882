"""What a run says before its first step: where it runs, on what, from where, and what memory it holds."""

from __future__ import annotations

import platform

import torch

from ..config import TrainConfig
from .building import Run
from .memory import gib, held_by, held_by_frozen, millions
from .precision import precision_here

MUCH_AT_ONCE = 32
FAST = 1e-3


def start_lines(run: Run) -> list[str]:
    """Return the lines of the start message."""
    config, data = run.config, run.config.data
    places = ", ".join(str(share.root) for share in data.places.values())
    per_step = data.batch_size * config.accumulation * run.accelerator.num_processes
    return [
        f"device      {device_text(run)}",
        f"processes   {run.accelerator.num_processes}, {precision_text(config)}",
        f"pictures    {run.pictures} from {places}; {per_step} samples per step "
        f"({data.batch_size} per pass × {config.accumulation} passes × {run.accelerator.num_processes} processes)",
        *network_lines(run),
        f"memory      {gib(held_bytes(run))} for weights, gradients, optimisers and averages, per process; "
        "activations come on top (--dry-run measures them)",
        f"steps       {run.start} of {config.max_steps} are done, {_came_from(run)}",
        *(f"            changed: {line}" for line in run.changed),
        *(f"note        {line}" for line in unusual(config)),
    ]


def unusual(config: TrainConfig) -> list[str]:
    """Return what is worth a second look in settings that are allowed."""
    lines = []
    if config.data.batch_size > MUCH_AT_ONCE:
        lines.append(
            f"data.batch_size is {config.data.batch_size}: more than {MUCH_AT_ONCE} rarely learn more from a step"
        )
    if config.generator.optimiser.lr > FAST:
        lines.append(
            f"generator.optimiser.lr is {config.generator.optimiser.lr:g}: above {FAST:g} training often diverges"
        )
    return lines


def precision_text(config: TrainConfig) -> str:
    """Return the precision, and why it is not the one that is asked for."""
    here = precision_here(config)
    if here is config.precision:
        return here.value
    return f"{here.value}: precision is {config.precision.value}, and this CPU has no units for it"


def device_text(run: Run) -> str:
    """Return the device with its name and memory."""
    device = run.accelerator.device
    if device.type != "cuda":
        return (
            f"{device.type} ({platform.processor() or platform.machine()}, {torch.get_num_threads()} threads)"
        )
    about = torch.cuda.get_device_properties(device)
    return f"{device} ({about.name}, {gib(about.total_memory)})"


def network_lines(run: Run) -> list[str]:
    """Return one line per network: its trained and all parameters."""
    lines = []
    for name, player in run.players.items():
        held = held_by(player)
        lines.append(
            f"network     {name}: {millions(held.trained)} of {millions(held.all)} parameters are trained"
        )
    if frozen := held_by_frozen(run.generator.frozen):
        lines.append(f"frozen      {gib(frozen)} of networks that only help the generator")
    return lines


def held_bytes(run: Run) -> int:
    """Return the bytes that stay between two steps, per process."""
    return sum(held_by(player).total_bytes for player in run.players.values()) + held_by_frozen(
        run.generator.frozen
    )


def _came_from(run: Run) -> str:
    if run.point.folder is None:
        return "starting anew"
    if run.start == 0:
        return f"starting anew with the weights of {run.point.folder}"
    return f"going on from {run.point.folder}"
