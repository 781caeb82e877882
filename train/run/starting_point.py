"""Where a run starts: from nothing, from the newest checkpoint of its folder, or from the one that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypir_core.errors import ConfigError

from ..config import CheckpointConfig, Resume
from .checkpoint_folders import checkpoints, named_checkpoint, newest_checkpoint, read_about, step_of
from .resuming import changes

KEY = "checkpoint.resume_from"


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """What a run starts from."""

    folder: Path | None
    """The checkpoint; None: from nothing."""
    how: Resume
    request: Mapping[str, str | None] | None
    """What was asked for once and is done: it goes into the run's checkpoints, so that the same command goes on
    from them, and does not go back again."""
    aside: tuple[Path, ...]
    """Checkpoints of the run that it does not go on from."""


def choose_start(run_dir: Path, config: CheckpointConfig, settings: Mapping[str, Any]) -> StartingPoint:
    """Decide where to start; nothing is changed.

    With `resume_from`, or with `resume` = weights, the run goes back once. Its own checkpoints remember that, and
    the same command with the same settings goes on from the newest of them.

    Raises:
        ConfigError: `resume` is never and there is a checkpoint, or `resume_from` is none.
        HypirError: a checkpoint cannot be read.
    """
    newest = newest_checkpoint(run_dir)
    if config.resume is Resume.never and newest:
        raise ConfigError(
            f"output_dir: {run_dir} already holds {newest.name}; use another folder, or checkpoint.resume=exact"
        )
    wanted = _request(config)
    if newest:
        about = read_about(newest)
        if wanted is None or (about.get("request") == wanted and not changes(about["settings"], settings)):
            how = config.resume if wanted is None else Resume.exact
            return StartingPoint(folder=newest, how=how, request=about.get("request"), aside=())
    folder = named_checkpoint(run_dir, config.resume_from, key=KEY) if config.resume_from else newest
    if folder is None:
        return StartingPoint(folder=None, how=config.resume, request=wanted, aside=())
    step = 0 if config.resume is Resume.weights else int(read_about(folder)["step"])
    return StartingPoint(
        folder=folder,
        how=config.resume,
        request=wanted,
        aside=tuple(each for each in checkpoints(run_dir) if _is_later(each, folder, step)),
    )


def _is_later(each: Path, folder: Path, step: int) -> bool:
    """Say whether a checkpoint of the run lies beyond the start at `step` from `folder`."""
    return step_of(each) >= step and not (each.resolve() == folder.resolve() and step_of(each) == step)


def _request(config: CheckpointConfig) -> dict[str, str | None] | None:
    if config.resume is not Resume.weights and config.resume_from is None:
        return None
    source = str(config.resume_from) if config.resume_from else None
    return {"resume": config.resume.value, "from": source}
