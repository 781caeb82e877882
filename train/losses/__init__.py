"""The losses between a generated image and its target, in one list.

Every loss takes float32 images [b c *spatial] in the units it is meant for (`domain.Works`; the [-1,1] scale unless it
says otherwise, so that the weights of the one-step recipe keep their meaning) and keyword options, and returns a scalar.
A loss with a network of its own is a class: its `Options` are a dataclass, and it is made once per run.
"""

from .catalog import LOSSES, ImageLoss, register_loss
from .domain import Compared, Works, works_in, works_of
from .terms import WeightedLoss, build_losses, check_loss, read_loss_options

__all__ = [
    "LOSSES",
    "Compared",
    "ImageLoss",
    "WeightedLoss",
    "Works",
    "build_losses",
    "check_loss",
    "read_loss_options",
    "register_loss",
    "works_in",
    "works_of",
]
