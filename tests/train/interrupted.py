"""A run that is stopped as by Ctrl-C."""

from __future__ import annotations

import pytest

from train.config import TrainConfig
from train.run import recipe
from train.run.recipe import train


def train_until(step: int, config: TrainConfig) -> None:
    """Train, and stop before the generator takes `step`."""
    taken = recipe.generator_step

    def stop(run, at, log, **given):
        if at == step:
            raise KeyboardInterrupt
        return taken(run, at, log, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "generator_step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config)
