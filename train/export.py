"""Weights out of a run, as files that `hypir restore` and ComfyUI load as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from hypir_core.weights.spec import WeightsSpec, spec_to_metadata
from hypir_core.weights.tensors import write_tensors

from .players import Player, trained_state

RAW = "generator.safetensors"
AVERAGED = "generator_ema.safetensors"
BEST = "generator_best.safetensors"


def export_generator(
    run_dir: Path, player: Player, spec: WeightsSpec, accelerator: Accelerator
) -> tuple[Path, ...]:
    """Write the generator's weights as they are, and their moving average if there is one; return the files.

    Raises:
        WeightsError: a file cannot be written.
    """
    raw = trained_state(accelerator.unwrap_model(player.module))
    written = [write_weights(run_dir / RAW, raw, spec)]
    if player.ema:
        written.append(write_weights(run_dir / AVERAGED, player.ema.shadow, spec))
    return tuple(written)


def write_weights(path: Path, tensors: Mapping[str, Tensor], spec: WeightsSpec) -> Path:
    """Write tensors with their spec; memory layout is made plain."""
    plain = {
        name: tensor.detach().to("cpu", memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    write_tensors(path, plain, spec_to_metadata(spec))
    return path
