"""Discriminators and the adversarial losses they are trained with, in one list each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from accelerate import Accelerator
from torch import Tensor, nn

from hypir_core.registry import Registry

from .config import DiscriminatorConfig, TrainConfig
from .players import Player, build_player
from .ramps import Ramp, ramp_factor

Logits = list[Tensor]
"""One tensor of logits per level of the discriminator."""


class AdversarialLoss(Protocol):
    """How logits become losses; each method returns a scalar."""

    def for_generator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the generator's loss."""
        ...

    def for_discriminator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the discriminator's loss."""
        ...


DISCRIMINATORS: Registry[Callable[[DiscriminatorConfig], nn.Module]] = Registry("discriminator")
"""Name → builder. Every module maps images [b 3 h w], [-1,1], to `Logits`."""

ADVERSARIAL: Registry[AdversarialLoss] = Registry("adversarial loss")


@dataclass(frozen=True, eq=False)
class Rival:
    """A discriminator at play."""

    player: Player
    loss: AdversarialLoss
    weight: float
    ramp: Ramp

    def weight_at(self, step: int) -> float:
        """Return the weight of the adversarial term in the generator's loss at `step`."""
        return self.weight * ramp_factor(self.ramp, step)

    def due(self, step: int) -> bool:
        """Say whether the discriminator learns at `step`: not before its term comes in."""
        return step >= self.ramp.start and self.player.due(step)


def build_rivals(config: TrainConfig, accelerator: Accelerator) -> tuple[Rival, ...]:
    """Make every discriminator that `config` lists.

    Raises:
        UnknownNameError: no such discriminator or adversarial loss.
    """
    entries: Mapping[str, DiscriminatorConfig] = config.discriminators
    return tuple(
        Rival(
            build_player(
                name,
                DISCRIMINATORS.get(entry.name)(entry),
                entry.optimiser,
                ema=None,
                accelerator=accelerator,
                max_steps=config.max_steps,
            ),
            ADVERSARIAL.get(entry.loss),
            entry.weight,
            entry.ramp,
        )
        for name, entry in entries.items()
    )
