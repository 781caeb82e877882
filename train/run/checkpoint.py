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
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hypir_core.errors import ConfigError, HypirError

from ..config import CheckpointConfig, Resume
from ..data.stream import Position
from ..players import Player
from .checkpoint_folders import (
    ABOUT,
    PART,
    checkpoint_dir,
    newest_checkpoint,
    prune,
    put_in_place,
    read_about,
)
from .resuming import changes, optimiser_of, refusals
from .taking_over import position_after, take_over

PLAYERS = "players.pt"


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best validation so far."""

    step: int
    metric: str
    value: float
    pairs: str = ""
    """Hash of the pairs that it was measured on; empty in checkpoints of older releases."""


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """What is not inside the players."""

    step: int
    """Steps done."""
    position: Position
    best: Best | None
    validated: int | None = None
    """The last step that was validated; None in checkpoints of older releases, or where there was none."""
    scores: tuple[tuple[float, int], ...] = ()
    """The best validations, score and step."""
    misses: int = 0
    """Validations since the best one."""
    changed: tuple[str, ...] = ()
    """What differs from the checkpoint, and what could not be taken over; one line each."""


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
    facts: Mapping[str, Any] | None = None,
    aside: Collection[Path] = (),
    best_steps: Collection[int] = (),
) -> Path:
    """Write the checkpoint of `step` steps done, then remove the ones that need not be kept.

    `settings` is what `train.run.resuming.refusals` compares, `facts` more for ``about.json``. The checkpoints in
    `aside` are renamed once this one is in its place; those of `best_steps` are kept. Every process calls this.

    Raises:
        HypirError: the disk is full or not writable; the previous checkpoint is untouched.
    """
    folder = checkpoint_dir(run_dir, step)
    part = folder.with_name(f"{PART}{folder.name}")
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
            _write(part / PLAYERS, state)
            about = {
                "step": step,
                "processes": accelerator.num_processes,
                "best": best_as_plain(best),
                **(facts or {}),
                "settings": dict(settings),
            }
            _write_text(part / ABOUT, json.dumps(about, indent=1))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            put_in_place(part, folder, aside=aside)
            prune(run_dir, keep, best_step=best.step if best else None, also=best_steps)
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


def best_as_plain(best: Best | None) -> dict[str, Any] | None:
    """Return what ``about.json`` holds of the best validation."""
    return asdict(best) if best else None


def amend_checkpoint(folder: Path, facts: Mapping[str, Any]) -> None:
    """Change what ``about.json`` says; an interruption leaves it as it was.

    Raises:
        OSError: it cannot be written.
    """
    beside = folder / f".{ABOUT}"
    _write_text(beside, json.dumps(read_about(folder) | dict(facts), indent=1))
    beside.replace(folder / ABOUT)


def load_checkpoint(
    folder: Path,
    *,
    players: Mapping[str, Player],
    settings: Mapping[str, Any],
    accelerator: Accelerator,
    how: Resume = Resume.exact,
) -> Resumed:
    """Bring the players and the random state to where the checkpoint was written, as far as `how` says.

    Raises:
        ConfigError: `exact`, and the run was started with other settings or another number of processes; names
            each key.
        SpecMismatchError: the generator's weights do not fit.
        HypirError: the checkpoint cannot be read.
    """
    about = read_about(folder)
    then, now = about["processes"], accelerator.num_processes
    differing = changes(about["settings"], settings)
    if how is Resume.exact:
        check_exact(folder, settings, processes=now)
    states = read_state(folder / PLAYERS)
    best = Best(**about["best"]) if about["best"] else None
    if how is Resume.weights:
        notes = take_over(states, players, accelerator, folder, same_optimiser=None)
        return Resumed(step=0, position=Position(), best=None, changed=notes)
    own = read_state(folder / f"rank-{accelerator.process_index if then == now else 0}.pt")
    data = own["data"]
    position = Position(batches=data["batches"], fresh=data["fresh"], pool=tuple(data["pool"]))
    notes = [f"{change.key}: {change.was} → {change.now}" for change in differing]
    if then != now:
        notes.append(f"processes: {then} → {now}")
    if not notes:
        for name, player in players.items():
            player.load_state_dict(states[name], accelerator)
        _set_random_state(own["random"])
    else:
        changed_rules = {optimiser_of(change.key) for change in differing}
        notes += take_over(
            states,
            players,
            accelerator,
            folder,
            same_optimiser=[name for name in players if name not in changed_rules],
        )
        position = position_after(
            position,
            then=then,
            now=now,
            batch_size=int(settings.get("data.batch_size", 1)),
            same_data=then == now and not any(change.is_about_data for change in differing),
        )
        torch.manual_seed(int(settings.get("seed", 0)) + about["step"])
    return Resumed(
        step=about["step"],
        position=position,
        best=best,
        validated=about.get("validated"),
        scores=tuple((float(score), int(step)) for score, step in about.get("scores", ())),
        misses=int(about.get("misses", 0)),
        changed=tuple(notes),
    )


def check_exact(folder: Path, settings: Mapping[str, Any], *, processes: int) -> None:
    """Refuse to go on from a checkpoint as if nothing had happened when something is different.

    Raises:
        ConfigError: lists every setting that differs, and another number of processes.
        HypirError: the checkpoint cannot be read.
    """
    about = read_about(folder)
    problems = refusals(about["settings"], settings, checkpoint=folder.name)
    if (then := about["processes"]) != processes:
        problems.append(
            f"processes: the checkpoint {folder.name} was made by {_processes(then)}, now there "
            f"{'is' if processes == 1 else 'are'} {processes}; run: accelerate launch --num_processes {then} …, or "
            "go on all the same with checkpoint.resume=all"
        )
    if problems:
        raise ConfigError(problems)


def read_state(path: Path) -> dict[str, Any]:
    """Read one ``.pt`` file of a checkpoint, onto the CPU.

    Raises:
        HypirError: it cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as err:
        raise HypirError(
            f"{path}: cannot be read ({err}); remove {path.parent.name} to use the one before"
        ) from err


def _processes(count: int) -> str:
    return f"{count} process{'' if count == 1 else 'es'}"


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


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
