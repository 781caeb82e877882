"""Weights out of a run or a checkpoint, as files that `hypir restore` and ComfyUI load as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from hypir_core.errors import ConfigError, HypirError
from hypir_core.lora.file import lora_from_tensors, write_lora
from hypir_core.lora.names import LoraForm
from hypir_core.weights.spec import LoraSpec, WeightsSpec, spec_from_metadata, spec_to_metadata
from hypir_core.weights.tensors import check_finite, write_tensors

from ..config import Optimiser
from ..players import GENERATOR, Player, averaged_state, trained_state
from .checkpoint import PLAYERS, read_state
from .checkpoint_folders import ABOUT, newest_checkpoint, read_about
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
    if player.ema or player.config.kind is Optimiser.schedule_free:
        states[AVERAGED] = averaged_state(player, accelerator)
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


def export_checkpoint(given: Path, out: Path, *, raw: bool) -> tuple[Path, ...]:
    """Write the generator of a checkpoint, its moving average unless `raw`, to the file `out`.

    `given` is a checkpoint, or the folder of a run, whose newest one is taken. Neither the data nor a base model is
    needed.

    Raises:
        ConfigError: `given` holds no checkpoint, or `out` does not end in .safetensors.
        HypirError: the checkpoint cannot be read, or is of a release that did not write down what it trains.
        WeightsError: `out` cannot be written.
    """
    if out.suffix.lower() != ".safetensors":
        raise ConfigError(
            f"-o: expected a name that ends in .safetensors, got {out}; hypir convert makes others"
        )
    folder = given if (given / ABOUT).is_file() else newest_checkpoint(given)
    if folder is None:
        raise ConfigError(
            f"{given}: is no checkpoint and no run folder with one; expected runs/…/checkpoints/step-…"
        )
    about = read_about(folder)
    if not about.get("weights"):
        raise HypirError(
            f"{folder}: an older release wrote it without what its weights are; run the same command once more with "
            f"max_steps={about['step']}, which writes the exports"
        )
    state = read_state(folder / PLAYERS)[GENERATOR]
    averaged = state["ema"]["shadow"] if state["ema"] else state.get("averaged", state["weights"])
    tensors = state["weights"] if raw else averaged
    check_finite(tensors, folder)
    return write_weights(out, tensors, spec_from_metadata(about["weights"], folder))
