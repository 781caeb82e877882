"""What the loop knows of a generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hypir_core.weights.spec import WeightsSpec

from ..config import ExportConfig, TrainConfig
from ..data.batch import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Generator:
    """A trainable restorer, before accelerate prepares its module."""

    module: nn.Module
    """Holds everything that is trained; what only helps, frozen, need not be in it."""
    scale: int
    """High-quality pixels per low-quality pixel."""
    restore: Callable[[nn.Module, Batch], Tensor]
    """(prepared module, batch) → images [b out_channels h·scale w·scale], [0,1] but not clamped."""
    spec: Callable[[ExportConfig, str], WeightsSpec]
    """(what the config says of the export, the trainer and its commit) → the spec for the file."""
    in_channels: int = 3
    out_channels: int = 3
    grain_px: int = 1
    """The sides of the high-quality pictures must divide by this."""
    base_hash: str = ""
    """What the trained tensors only make sense with, as a hash; empty where they stand alone."""
    frozen: tuple[nn.Module, ...] = ()
    """Networks outside `module` that only help, for counting memory."""
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
