"""Which folders are checkpoints, which is the newest, and which may go.

A checkpoint is a folder ``checkpoints/step-<8 digits>`` with an ``about.json`` that states the same step.
Everything else there (a copy, a renamed folder, a stray file) is somebody else's: it is never read, counted or
removed unless a setting names it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hypir_core.errors import ConfigError, HypirError, nearest_hint

from ..config import CheckpointConfig

ABOUT = "about.json"
PART, OLD, ASIDE = ".part-", ".old-", "aside-"
NAME = re.compile(r"step-(\d{8,})")

log = logging.getLogger(__name__)


def checkpoint_dir(run_dir: Path, step: int) -> Path:
    """Return where the checkpoint of `step` lies."""
    return run_dir / "checkpoints" / f"step-{step:08d}"


def checkpoints(run_dir: Path) -> list[Path]:
    """Return the checkpoints of a run, by their steps."""
    folders = [folder for folder in run_dir.glob("checkpoints/step-*") if _is_checkpoint(folder)]
    return sorted(folders, key=step_of)


def newest_checkpoint(run_dir: Path) -> Path | None:
    """Return the checkpoint with the most steps, if there is one."""
    return next(reversed(checkpoints(run_dir)), None)


def step_of(folder: Path) -> int:
    """Return the steps in the name of a checkpoint."""
    return int(folder.name.removeprefix("step-"))


def named_checkpoint(run_dir: Path, given: Path, *, key: str) -> Path:
    """Return the checkpoint that `given` means: a name in `run_dir`, or any folder with a checkpoint in it.

    Raises:
        ConfigError: there is none; names `key` and lists those of the run.
    """
    inside = run_dir / "checkpoints"
    for folder in (inside / given, given, inside / f"{ASIDE}{given}"):
        if (folder / ABOUT).is_file():
            return folder
    names = [folder.name for folder in checkpoints(run_dir)]
    raise ConfigError(
        f"{key}: {given} is no checkpoint{nearest_hint(str(given), names)}; expected a folder with {ABOUT}, "
        f"or one of {inside}: {', '.join(names) or 'there is none'}"
    )


def read_about(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint says about itself.

    Raises:
        HypirError: it cannot be read.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if not isinstance(about, dict) or not {"step", "processes", "settings"} <= about.keys():
            raise ValueError("step, processes or settings is absent")
    except (OSError, ValueError) as err:
        raise HypirError(
            f"{folder}: is not a readable checkpoint ({err}); remove it to use the one before"
        ) from err
    return about


def clear_leftovers(run_dir: Path) -> None:
    """Remove what killed processes left half-written; a checkpoint that was being replaced comes back."""
    for folder in run_dir.glob(f"checkpoints/{OLD}step-*"):
        whole = folder.with_name(folder.name.removeprefix(OLD))
        if not whole.exists():
            folder.replace(whole)
            log.info("%s was being replaced and is back", whole)
        else:
            shutil.rmtree(folder)
    for folder in run_dir.glob(f"checkpoints/{PART}*"):
        shutil.rmtree(folder)
        log.info("removed %s, which a killed process left half-written", folder)


def put_in_place(part: Path, folder: Path, *, aside: Collection[Path] = ()) -> None:
    """Give `part` the name `folder`; an older one of the same step is removed, or kept if it is in `aside`."""
    older = folder.with_name(f"{OLD}{folder.name}")
    shutil.rmtree(older, ignore_errors=True)
    if folder in aside:
        _set_aside(folder)
    elif folder.exists():
        folder.replace(older)
    part.replace(folder)
    sync_folder(folder.parent)
    shutil.rmtree(older, ignore_errors=True)
    for other in aside:
        if other != folder and other.exists():
            _set_aside(other)


def prune(
    run_dir: Path, keep: CheckpointConfig, *, best_step: int | None, also: Collection[int] = ()
) -> None:
    """Remove the checkpoints that need not be kept."""
    folders = checkpoints(run_dir)
    kept = set(folders[-keep.keep_last :])
    if keep.keep_best and best_step is not None:
        kept.add(checkpoint_dir(run_dir, best_step))
    if keep.keep_best:
        kept |= {checkpoint_dir(run_dir, step) for step in also}
    for folder in folders:
        if folder not in kept:
            shutil.rmtree(folder)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system lets a folder be opened (not on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_checkpoint(folder: Path) -> bool:
    match = NAME.fullmatch(folder.name)
    if not match or not (folder / ABOUT).is_file():
        return False
    try:
        return read_about(folder)["step"] == int(match[1])
    except HypirError:
        return True  # damaged, which is said when it is loaded


def _set_aside(folder: Path) -> None:
    """Rename a checkpoint that the run no longer goes on from, so that it is kept but not counted."""
    name, number = f"{ASIDE}{folder.name}", 1
    while (there := folder.with_name(name)).exists():
        number += 1
        name = f"{ASIDE}{folder.name}-{number}"
    folder.replace(there)
    log.info("the run goes on from before %s; that one is kept as %s", folder.name, there.name)
