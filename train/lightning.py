"""A run of ours under Lightning's Trainer: their callbacks and loggers, our steps.

Lightning is no dependency: this file needs it when it is used, nothing else does.
"""

from __future__ import annotations

from typing import Any

from hypir_core.errors import ConfigError, MissingDependencyError

from .run.best import validation_due
from .run.building import Run
from .run.logbook import StepLog
from .run.meter import Meter
from .run.recipe import one_step


def lightning_module(run: Run) -> Any:
    """Return a LightningModule whose training step is a step of `run`, with manual optimisation.

    Train it with ``Trainer(max_steps=…, accelerator=…, devices=1).fit(module)``: it brings its own batches. Weights,
    losses and learning rates are logged under our names; Lightning's checkpoints hold the players' weights.

    Raises:
        MissingDependencyError: Lightning is not installed.
        ConfigError: there are several processes; accelerate starts them.
    """
    try:
        import lightning  # pyright: ignore[reportMissingImports]
    except ImportError as err:
        raise MissingDependencyError("lightning", None, "training under Lightning") from err
    import torch
    from torch import nn

    if run.accelerator.num_processes > 1:
        raise ConfigError("Lightning: expected one process; start several with accelerate launch -m train")

    class Steps(torch.utils.data.IterableDataset[int]):
        """The numbers of the steps that are left; batches come from the run's own stream."""

        def __iter__(self) -> Any:
            return iter(range(run.start, run.config.max_steps))

    class OurSteps(lightning.LightningModule):  # pyright: ignore[reportAttributeAccessIssue, reportUntypedBaseClass]
        """A run."""

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.players = nn.ModuleDict({name: player.module for name, player in run.players.items()})

        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(Steps(), batch_size=None)

        def configure_optimizers(self) -> Any:
            return [player.optimiser.optimizer for player in run.players.values()]

        def training_step(self, step: Any, _index: int) -> None:
            number = int(step)
            log = StepLog(Meter(run.accelerator.device))
            one_step(run, number, log)
            log.meter.step_done()
            rates = {
                f"lr/{name}": player.lr_schedule.get_last_lr()[0] for name, player in run.players.items()
            }
            self.log_dict({**log.read(run.accelerator), **rates})
            if validation_due(run, number + 1):
                from .run.best import validate_average

                validate_average(run, number + 1)

    return OurSteps()
