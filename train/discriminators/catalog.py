"""Which discriminators and adversarial losses there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

from torch import Tensor

from hypir_core.registry import Registry, lazy

from .judgement import Logits


class AdversarialLoss(Protocol):
    """How logits become losses; each method returns a scalar."""

    needs_real: ClassVar[bool]
    """Whether the generator's loss reads the logits of the target; else it gets none, which saves a pass."""

    def for_generator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the generator's loss."""
        ...

    def for_discriminator(self, fake: Logits, real: Logits) -> Tensor:
        """Return the discriminator's loss."""
        ...


DISCRIMINATORS: Registry[Any] = Registry("discriminator", group="onestep_restore.discriminators")
"""Name → module class with its options dataclass as `Options`, which is all that its constructor takes.

``forward(image_pm1, *, with_features=False)`` takes [b c *cells], [-1,1], and returns a `Judgement`; `in_file` is
the part that a weight file holds.
"""

for _name, _target, _summary in (
    ("patch", ".patch:PatchDiscriminator", "PatchGAN, at one or several scales; a logit per patch"),
    ("unet", ".unet:UNetDiscriminator", "U-Net with spectral norm; a logit per pixel"),
    ("standard", ".standard:StandardDiscriminator", "SRGAN's: one logit for the image, spectral norm"),
    (
        "patchgan",
        ".patchgan:PatchGanDiscriminator",
        "PatchGAN with instance or batch norms; a logit per patch",
    ),
    ("esrgan", ".esrgan:EsrganDiscriminator", "ESRGAN's: deeper, one logit for the image"),
    ("clip_convnext", ".clip_convnext:ClipConvNextDiscriminator", "trained heads on a frozen CLIP ConvNeXt"),
):
    DISCRIMINATORS.add(_name, lazy(_target, __package__), summary=_summary, lazy=True)

D = TypeVar("D", bound=Callable[..., Any])


def register_discriminator(name: str, *, summary: str = "") -> Callable[[D], D]:
    """Return a decorator that makes a discriminator known under `name`."""
    return DISCRIMINATORS.decorator(name, summary=summary)


ADVERSARIAL: Registry[type[AdversarialLoss]] = Registry("adversarial loss")
"""Name → dataclass whose fields are the loss's options."""

for _name, _target, _summary in (
    ("hinge", ".adversarial:Hinge", "hinge; the discriminator stops where it is sure"),
    ("bce", ".adversarial:Bce", "cross-entropy with one-sided label smoothing"),
    ("least_squares", ".adversarial:LeastSquares", "squared distance from the label"),
    ("relativistic", ".adversarial:Relativistic", "more real than the other kind on average?"),
    ("wasserstein", ".adversarial:Wasserstein", "difference of the means; needs r1 or spectral norm"),
):
    ADVERSARIAL.add(_name, lazy(_target, __package__), summary=_summary, lazy=True)
