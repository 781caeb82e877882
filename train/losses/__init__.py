"""The losses between a generated image and its target, in one list.

Every loss takes float32 images [b c h w] on the [-1,1] scale (values may leave it) and keyword options, and
returns a scalar that is zero when both are equal. The scale is that of the one-step recipe, so that its
weights keep their meaning; LPIPS wants it as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from hypir_core.errors import ConfigError, nearest_hint
from hypir_core.registry import Registry, lazy

from ..config import LossConfig
from ..ramps import Ramp, ramp_factor

ImageLoss = Callable[..., Tensor]

LOSSES: Registry[ImageLoss] = Registry("loss")

for _name, _target, _summary in (
    ("l1", ".pixel:l1", "mean absolute error"),
    ("l2", ".pixel:l2", "mean squared error"),
    ("huber", ".pixel:huber", "squared below `delta`, absolute above (Huber 1964)"),
    ("charbonnier", ".pixel:charbonnier", "smooth absolute error (Charbonnier et al. 1994)"),
    ("ssim", ".structure:ssim_loss", "1 − structural similarity (Wang et al. 2004)"),
    (
        "fourier",
        ".structure:fourier",
        "absolute error of the spectrum (Jiang et al., arXiv 2012.12821, unweighted)",
    ),
    ("gradient", ".structure:gradient", "absolute error of finite differences; blind to a constant offset"),
    ("tv", ".structure:total_variation", "mean absolute finite difference of the image beyond the target's"),
):
    LOSSES.add(_name, lazy(_target, __name__), summary=_summary, lazy=True)


@dataclass(frozen=True, eq=False)
class WeightedLoss:
    """One term of the generator's loss."""

    name: str
    loss: ImageLoss
    weight: float
    ramp: Ramp

    def weight_at(self, step: int) -> float:
        """Return the weight at `step`."""
        return self.weight * ramp_factor(self.ramp, step)


def build_losses(configs: Mapping[str, LossConfig]) -> tuple[WeightedLoss, ...]:
    """Make the terms; those with weight 0 are left out.

    Raises:
        UnknownNameError: a loss that is not registered.
        ConfigError: an option that the loss does not take.
    """
    return tuple(
        WeightedLoss(name, _with_options(name, entry.options), entry.weight, entry.ramp)
        for name, entry in configs.items()
        if entry.weight
    )


def _with_options(name: str, options: Mapping[str, float]) -> ImageLoss:
    loss = LOSSES.get(name)
    known = [p.name for p in inspect.signature(loss).parameters.values() if p.kind is p.KEYWORD_ONLY]
    listed = ", ".join(known) or "none"
    problems = [
        f"losses.{name}.options: unknown key {key!r}{nearest_hint(key, known)}; known: {listed}"
        for key in options
        if key not in known
    ]
    if problems:
        raise ConfigError(problems)
    return partial(loss, **options)
