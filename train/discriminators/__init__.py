"""Discriminators and the adversarial losses they are trained with."""

from .catalog import ADVERSARIAL, DISCRIMINATORS, AdversarialLoss
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
]
