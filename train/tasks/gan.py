"""Restoring: the picture that the generator makes stands beside its target."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from hypir_core.image.ranges import AnyRange

from ..config import TrainConfig
from ..data.batch import Batch
from ..generators import Generator
from ..losses import Compared
from .base import Attempt


class RestoreTask:
    """The generator's picture and the target, in network values."""

    def __init__(self, config: TrainConfig, generator: Generator):
        del config
        self._generator = generator
        self.values: AnyRange = generator.gives

    def attempt(self, module: nn.Module, batch: Batch, step: int) -> Attempt:
        """Return the restored picture with its target."""
        del step
        image = self._generator.restore(module, batch)
        compared = Compared(
            image=image.float(), target=self.values.apply(batch.hq), values=self.values, valid=batch.valid
        )
        return Attempt(batch, compared)

    def restore(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the restored picture in file values."""
        return self.values.undo(self._generator.restore(module, batch).float())

    def checks(self, module: nn.Module, batch: Batch) -> Mapping[str, float]:
        """Return nothing: the pictures are all there is to measure."""
        del module, batch
        return {}
