"""What the loop knows of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor, nn

from hypir_core.image.ranges import AnyRange

from ..config import TrainConfig
from ..data.batch import Batch
from ..generators import Generator
from ..losses import Compared


@dataclass(frozen=True, eq=False)
class Attempt:
    """What a task made of a batch, for the players to learn from."""

    batch: Batch
    compared: Compared | None = None
    """A generated picture with its target: losses and discriminators compare them; None where nothing is generated."""
    terms: Mapping[str, tuple[float, Tensor]] = field(default_factory=dict)
    """Terms of its own for the generator: weight and scalar by name."""

    def detached(self) -> Attempt:
        """Return the same without gradient, for the discriminators and for pictures."""
        compared = self.compared and replace(self.compared, image=self.compared.image.detach())
        return Attempt(self.batch, compared)


class Task(Protocol):
    """Turns a batch into what the players learn from."""

    values: AnyRange
    """The range that makes network values out of the targets' file values."""

    def attempt(self, module: nn.Module, batch: Batch, step: int) -> Attempt:
        """Return what the players learn from at `step`; with gradient, if that is asked for outside."""
        ...

    def restore(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return restored pictures [b c *cells] in file values, for validation; called without gradient."""
        ...

    def checks(self, module: nn.Module, batch: Batch) -> Mapping[str, float]:
        """Return further numbers that validation takes down, by name; called without gradient."""
        ...


class TaskKind(Protocol):
    """Makes a task; a class of two arguments is one."""

    def __call__(self, config: TrainConfig, generator: Generator) -> Task:
        """Return the task.

        Raises:
            ConfigError: the generator or the settings do not go with it.
        """
        ...
