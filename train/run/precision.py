"""The number format that a run computes in, on the machine where it runs."""

from __future__ import annotations

import torch

from hypir_core.device import cpu_bfloat16_units

from ..config import Precision, TrainConfig


def precision_here(config: TrainConfig) -> Precision:
    """Return the precision that is asked for; fp32 for bf16 where a CPU would only emulate it, a hundred times slower.

    Weights, moving averages and losses are float32 in either, so that a checkpoint of one goes on in the other.
    """
    emulated = config.precision is Precision.bf16 and is_on_cpu(config) and cpu_bfloat16_units() is None
    return Precision.fp32 if emulated else config.precision


def is_on_cpu(config: TrainConfig) -> bool:
    """Say whether a run computes on the CPU."""
    return config.cpu or not (torch.cuda.is_available() or torch.backends.mps.is_available())
