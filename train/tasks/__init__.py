"""What is learned from a batch, in one list.

`gan`: the generator restores the low-quality pictures; losses and discriminators compare them with their targets.
Others, such as denoising, bring terms of their own and need no picture.
"""

from __future__ import annotations

from hypir_core.registry import Registry, lazy

from ..config import TrainConfig
from ..generators import Generator
from .base import Attempt, Task, TaskKind

__all__ = ["TASKS", "Attempt", "Task", "TaskKind", "build_task"]

TASKS: Registry[TaskKind] = Registry("task", group="onestep_restore.tasks")
"""Name → a function of the settings and the generator that makes the task."""

TASKS.add(
    "gan", lazy(".gan:RestoreTask", __name__), summary="restore, and compare with the target", lazy=True
)

TASKS.add(
    "denoising",
    lazy(".latents:denoising", __name__),
    summary="take noise of every strength away, told the measurement or the degraded picture: diffusion",
    lazy=True,
)

TASKS.add(
    "tagging",
    lazy(".tagging:TaggingTask", __name__),
    summary="see in a degraded picture what the tagger sees in the clean one",
    lazy=True,
)


def build_task(config: TrainConfig, generator: Generator) -> Task:
    """Make the task that `config` names.

    Raises:
        UnknownNameError: no such task.
        ConfigError: the generator or the settings do not go with it.
    """
    return TASKS.get(config.task)(config, generator)
