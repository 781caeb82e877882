"""The losses between a generated image and its target, in one list.

Every loss takes float32 images [b c h w] on the [-1,1] scale (values may leave it) and keyword options, and
returns a scalar that is zero when both are equal. The scale is that of the one-step recipe, so that its
weights keep their meaning; LPIPS wants it as well. A loss with a network of its own is a class: its `Options`
are a dataclass, and it is made once per run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hypir_core.config import build
from hypir_core.errors import ConfigError, nearest_hint
from hypir_core.registry import Registry, lazy

from ..config import LossConfig
from ..config.checks import raise_all
from ..ramps import Ramp, ramp_factor
from ..three_bands import three_bands_problem

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
    (
        "checkerboard",
        ".structure:checkerboard",
        "the part of the error that repeats every `period` px (Odena et al. 2016 name it)",
    ),
    (
        "lpips",
        ".perceptual:Lpips",
        "distance of deep features, as people see it (Zhang et al., arXiv 1801.03924)",
    ),
    ("ms_ssim", ".structure:ms_ssim_loss", "1 − SSIM over several scales (Wang et al. 2003)"),
    (
        "spectral_angle",
        ".pixel:spectral_angle",
        "angle between the bands of a pixel, blind to its brightness",
    ),
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


def build_losses(
    configs: Mapping[str, LossConfig], device: torch.device | None = None
) -> tuple[WeightedLoss, ...]:
    """Make the terms; those with weight 0 are left out. Networks are put on `device`, or the CPU.

    Raises:
        UnknownNameError: a loss that is not registered.
        ConfigError: an option that the loss does not take.
        WeightsError: the weights of a network cannot be had.
    """
    return tuple(
        WeightedLoss(name, _with_options(name, entry.options, device), entry.weight, entry.ramp)
        for name, entry in configs.items()
        if entry.weight
    )


def read_loss_options(name: str, options: Mapping[str, Any]) -> Any:
    """Return the options of a loss: its `Options`, or for one that is a function its keyword arguments.

    Raises:
        UnknownNameError: a loss that is not registered.
        ConfigError: lists the options it does not take and those that are no numbers.
    """
    loss, where = LOSSES.get(name), f"losses.{name}.options"
    if inspect.isclass(loss):
        return build(loss.Options, options, where=where)
    known = [p.name for p in inspect.signature(loss).parameters.values() if p.kind is p.KEYWORD_ONLY]
    listed = ", ".join(known) or "none"
    problems = [
        f"{where}: unknown key {key!r}{nearest_hint(key, known)}; known: {listed}"
        for key in options
        if key not in known
    ]
    numbers: dict[str, float] = {}
    for key, value in options.items():
        try:
            numbers[key] = float(value)  # YAML 1.1 reads 1e-3 as a text
        except (TypeError, ValueError):
            problems.append(f"{where}.{key} must be a number, got {value!r}")
    if problems:
        raise ConfigError(problems)
    return numbers


def check_loss(name: str, config: LossConfig, channels: int) -> None:
    """Refuse options that a loss does not take, and a network for colour before other channels.

    Raises:
        UnknownNameError: a loss that is not registered.
        ConfigError: lists what is wrong.
    """
    options = read_loss_options(name, config.options)
    if config.weight and hasattr(options, "channels"):
        raise_all(three_bands_problem(options.channels, channels, key=f"losses.{name}.options.channels"))


def _with_options(name: str, options: Mapping[str, Any], device: torch.device | None) -> ImageLoss:
    loss, read = LOSSES.get(name), read_loss_options(name, options)
    if inspect.isclass(loss):
        return loss(read, key=f"losses.{name}.options", device=device)
    return partial(loss, **read)
