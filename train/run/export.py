"""Weights out of a run, as files that `hypir restore` and ComfyUI load as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from hypir_core.lora.file import lora_from_tensors, write_lora
from hypir_core.lora.names import LoraForm
from hypir_core.weights.spec import LoraSpec, WeightsSpec, spec_to_metadata
from hypir_core.weights.tensors import write_tensors

from ..players import Player, trained_state
from .sharding import whole

RAW = "generator.safetensors"
AVERAGED = "generator_ema.safetensors"
BEST = "generator_best.safetensors"


def export_generator(
    run_dir: Path, player: Player, spec: WeightsSpec, accelerator: Accelerator, *, original_pth: bool = False
) -> tuple[Path, ...]:
    """Write the generator's weights as they are, and their moving average if there is one; return the files.

    Every process calls this, the main one writes.

    Raises:
        WeightsError: a file cannot be written.
    """
    states = {RAW: trained_state(accelerator.unwrap_model(player.module))}
    if player.ema:
        states[AVERAGED] = player.ema.shadow
    written: list[Path] = []
    for name, state in states.items():
        tensors = whole(state)
        if accelerator.is_main_process:
            written += write_weights(run_dir / name, tensors, spec, original_pth=original_pth)
    return tuple(written)


def write_weights(
    path: Path, tensors: Mapping[str, Tensor], spec: WeightsSpec, *, original_pth: bool = False
) -> tuple[Path, ...]:
    """Write what a generator trains, with its spec; return the files.

    A LoRA is written under kohya's names, which every program that loads LoRAs reads, and with
    `original_pth` a second time beside it, in the container and under the names of the published one.
    """
    plain = {
        name: tensor.detach().to("cpu", memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    metadata = spec_to_metadata(spec)
    if not isinstance(spec, LoraSpec):
        write_tensors(path, plain, metadata)
        return (path,)
    lora = lora_from_tensors(plain, metadata, where=path)
    write_lora(path, lora, form=LoraForm.kohya)
    if not original_pth:
        return (path,)
    write_lora(path.with_suffix(".pth"), lora, form=LoraForm.original)
    return path, path.with_suffix(".pth")
