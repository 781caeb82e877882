"""What a discriminator says of a batch of images."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

Logits = list[Tensor]
"""One tensor of logits per level of the discriminator, each [b …]; above 0 means real."""


class Judgement(NamedTuple):
    """The answer of every discriminator's `forward`."""

    logits: Logits
    features: list[Tensor]
    """What its layers saw, each [b c h w] or [b c]; empty unless asked for."""
