"""Discriminators and the adversarial losses they are trained with."""

from .catalog import ADVERSARIAL, DISCRIMINATORS, AdversarialLoss, register_discriminator
from .judgement import Judgement, Logits
from .rival import Rival, build_rivals

__all__ = [
    "ADVERSARIAL",
    "DISCRIMINATORS",
    "AdversarialLoss",
    "Judgement",
    "Logits",
    "Rival",
    "build_rivals",
    "register_discriminator",
]
