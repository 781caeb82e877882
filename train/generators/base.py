"""What the loop knows of a generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hypir_core.diffusion.schedule import NoiseSchedule
from hypir_core.image.ranges import UNIT, AnyRange
from hypir_core.weights.spec import Prediction, WeightsSpec

from ..config import ExportConfig, TrainConfig
from ..data.batch import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Latents:
    """What the denoising task asks of a generator that takes noise off latents, whose schedule is its base model's."""

    schedule: NoiseSchedule
    prediction: Prediction
    encode: Callable[[Tensor], Tensor]
    """Pictures [b 3 h w] in [0,1] → clean latents [b c h/8 w/8], float32, without gradient."""
    decode: Callable[[Tensor], Tensor]
    """Back, clamped to [0,1], without gradient."""
    ask: Callable[[nn.Module, Batch, Tensor], Callable[[Tensor, Tensor], Tensor]]
    """(prepared module, batch, bool [b]: who is told the words) → a function of x_t and timesteps [b] that gives a
    prediction like x_t. Everything but x_t is read once, in `ask`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """What the tagging task asks of a generator that names what is in a picture."""

    see: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]
    """(prepared module, pictures [b 3 h w] in [0,1]) → tokens [b n width] and logits [b labels], float32."""
    clean: Callable[[Tensor], tuple[Tensor, Tensor]]
    """The same as it was before training, without gradient."""
    weights: tuple[float, float] = (1.0, 1.0)
    """Of the tokens and of the tags in the loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Generator:
    """A trainable restorer, before accelerate prepares its module."""

    module: nn.Module
    """Holds everything that is trained; what only helps, frozen, need not be in it."""
    scale: int | tuple[int, ...]
    """High-quality pixels per low-quality pixel, along every axis or one for each."""
    restore: Callable[[nn.Module, Batch], Tensor]
    """(prepared module, batch) → images [b out_channels *cells·scale] in network values, `gives`, not clamped."""
    spec: Callable[[ExportConfig, str], WeightsSpec]
    """(what the config says of the export, the trainer and its commit) → the spec for the file."""
    in_channels: int = 3
    out_channels: int = 3
    dims: int = 2
    """Spatial axes."""
    gives: AnyRange = UNIT
    """The range that makes its network values out of file values."""
    grain_px: int = 1
    """The sides of the high-quality pictures must divide by this."""
    base_hash: str = ""
    """What the trained tensors only make sense with, as a hash; empty where they stand alone."""
    frozen: tuple[nn.Module, ...] = ()
    """Networks outside `module` that only help, for counting memory."""
    latents: Latents | None = None
    """For ``task: denoising``; None: there is nothing to denoise, or it is done in pixels."""
    sight: Sight | None = None
    """For ``task: tagging``; None: it makes pictures."""
    notes: Callable[[], tuple[str, ...]] = tuple
    """What a person should know of the batches so far, each sentence once; the main process asks with
    every line of its log."""


@dataclass(frozen=True, kw_only=True)
class GeneratorKind:
    """What can be asked of a generator by its name."""

    make: Callable[[TrainConfig, torch.device], Generator]
    """The device is where the frozen parts go; `Generator.module` is moved by the player."""
    check: Callable[[Mapping[str, Any]], object]
    """Raises ConfigError for ``generator.options`` that it does not take; makes and reads nothing."""
    find: Callable[[TrainConfig], object]
    """Raises ConfigError or WeightsNotFoundError where a file to start from is absent; reads none."""
