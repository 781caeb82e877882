"""Checkpoints: only what training changes, written so that an interruption leaves the previous one whole.

``output_dir/checkpoints/step-00001000/`` holds `players.pt` (trained tensors, optimisers, schedules,
averages), `rank-N.pt` (random state and data position of each process) and `about.json`. It is written under
a temporary name and renamed when everything is on the disk; older ones are removed after that.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hypir_core.errors import ConfigError, HypirError

from ..config import CheckpointConfig
from ..data.stream import Position
from ..players import Player
from .resuming import refusals


@dataclass(frozen=True)
class Best:
    """The best validation so far."""

    step: int
    metric: str
    value: float


@dataclass(frozen=True)
class Resumed:
    """What is not inside the players."""

    step: int
    """Steps done."""
    position: Position
    best: Best | None


def save_checkpoint(
    run_dir: Path,
    *,
    step: int,
    players: Mapping[str, Player],
    position: Position,
    best: Best | None,
    settings: Mapping[str, Any],
    keep: CheckpointConfig,
    accelerator: Accelerator,
) -> Path:
    """Write the checkpoint of `step` steps done, then remove the ones that need not be kept.

    `settings` is what `train.resuming.refusals` compares. Every process calls this.

    Raises:
        HypirError: the disk is full or not writable; the previous checkpoint is untouched.
    """
    folder = checkpoint_dir(run_dir, step)
    part = folder.with_name(f".part-{folder.name}")
    state = {name: player.state_dict(accelerator) for name, player in players.items()}
    try:
        if accelerator.is_main_process:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        accelerator.wait_for_everyone()
        _write(
            part / f"rank-{accelerator.process_index}.pt",
            {"random": _random_state(), "data": asdict(position)},
        )
        if accelerator.is_main_process:
            _write(part / "players.pt", state)
            about = {
                "step": step,
                "processes": accelerator.num_processes,
                "best": asdict(best) if best else None,
                "settings": dict(settings),
            }
            _write_text(part / "about.json", json.dumps(about, indent=1))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _put_in_place(part, folder)
            _prune(run_dir, keep, best)
    except (OSError, RuntimeError) as err:
        # torch.save reports a full disk as RuntimeError.
        shutil.rmtree(part, ignore_errors=True)
        last = newest_checkpoint(run_dir)
        left = f"{last.name} is whole" if last else "there is no earlier one"
        raise HypirError(
            f"output_dir: the checkpoint of step {step} cannot be written to {folder.parent} ({err}); "
            f"{left}; free space there and run again"
        ) from err
    accelerator.wait_for_everyone()
    return folder


def load_checkpoint(
    folder: Path, *, players: Mapping[str, Player], settings: Mapping[str, Any], accelerator: Accelerator
) -> Resumed:
    """Bring the players and the random state to where the checkpoint was written.

    Raises:
        ConfigError: the run was started with other settings or another number of processes; names each key.
        HypirError: the checkpoint cannot be read.
    """
    about = _about(folder)
    problems = refusals(about["settings"], settings, checkpoint=folder.name)
    if about["processes"] != accelerator.num_processes:
        problems.append(
            f"processes: the checkpoint {folder.name} was made by {about['processes']}, now there are "
            f"{accelerator.num_processes}; run: accelerate launch --num_processes {about['processes']} …"
        )
    if problems:
        raise ConfigError(problems)
    states = _read(folder / "players.pt")
    for name, player in players.items():
        player.load_state_dict(states[name], accelerator)
    own = _read(folder / f"rank-{accelerator.process_index}.pt")
    _set_random_state(own["random"])
    data = own["data"]
    position = Position(batches=data["batches"], fresh=data["fresh"], pool=tuple(data["pool"]))
    return Resumed(about["step"], position, Best(**about["best"]) if about["best"] else None)


def newest_checkpoint(run_dir: Path) -> Path | None:
    """Return the complete checkpoint with the most steps, if there is one."""
    return max(run_dir.glob("checkpoints/step-*"), key=_step_of, default=None)


def checkpoint_dir(run_dir: Path, step: int) -> Path:
    """Return where the checkpoint of `step` lies."""
    return run_dir / "checkpoints" / f"step-{step:08d}"


def _put_in_place(part: Path, folder: Path) -> None:
    """Give `part` the name `folder`; an older one of the same step is moved away first, then removed."""
    older = folder.with_name(f".old-{folder.name}")
    shutil.rmtree(older, ignore_errors=True)
    if folder.exists():
        folder.replace(older)
    part.replace(folder)
    _sync_folder(folder.parent)
    shutil.rmtree(older, ignore_errors=True)


def _prune(run_dir: Path, keep: CheckpointConfig, best: Best | None) -> None:
    folders = sorted(run_dir.glob("checkpoints/step-*"), key=_step_of)
    kept = set(folders[-keep.keep_last :])
    if keep.keep_best and best:
        kept.add(checkpoint_dir(run_dir, best.step))
    for folder in folders:
        if folder not in kept:
            shutil.rmtree(folder)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _about(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "about.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise HypirError(
            f"{folder}: is not a readable checkpoint ({err}); remove it to use the one before"
        ) from err


def _read(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as err:
        raise HypirError(
            f"{path}: cannot be read ({err}); remove {path.parent.name} to use the one before"
        ) from err


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        torch.save(dict(content), file)
        file.flush()
        os.fsync(file.fileno())


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened (not on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
