"""Weights out of a run or a checkpoint, as files that `hypir restore` and ComfyUI load as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from hypir_core.atomic import atomic_file
from hypir_core.errors import ConfigError, HypirError, WeightsError
from hypir_core.lora.file import lora_from_tensors, lora_to_tensors, write_lora
from hypir_core.lora.names import LoraForm
from hypir_core.lora.vae_part import split_vae, vae_lora, vae_tensors_of
from hypir_core.models.architectures import tensors_for_file
from hypir_core.models.sd.image_blocks import published_names
from hypir_core.weights.seesr_spec import SeesrSpec
from hypir_core.weights.spec import GeneratorSpec, LoraSpec, WeightsSpec, spec_from_metadata, spec_to_metadata
from hypir_core.weights.tagger_lora_spec import TaggerLoraSpec
from hypir_core.weights.tensors import check_finite, write_tensors

from ..config import Optimiser
from ..exporting.graph import ENDINGS, write_graph
from ..generators.lora_layers import OF_UNET
from ..generators.tagger_lora import names_for_file
from ..players import GENERATOR, Player, averaged_state, trained_state
from .checkpoint import PLAYERS, read_state
from .checkpoint_folders import ABOUT, newest_checkpoint, read_about
from .sharding import whole

RAW = "generator.safetensors"
AVERAGED = "generator_ema.safetensors"
BEST = "generator_best.safetensors"
NETWORK_FILE = "diffusion_pytorch_model.safetensors"


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
    `original_pth` a second time beside it, in the container and under the names of the published one. SeeSR's two
    networks are written into a folder of the file's name without its ending, laid out as the published one.
    """
    plain = {
        name: tensor.detach().to("cpu", memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    metadata = spec_to_metadata(spec)
    if isinstance(spec, GeneratorSpec):
        plain = tensors_for_file(spec.architecture, plain)
    if isinstance(spec, SeesrSpec):
        return _write_seesr(path.with_suffix(""), plain, spec)
    if isinstance(spec, TaggerLoraSpec):
        plain = names_for_file(plain)
    if not isinstance(spec, LoraSpec):
        write_tensors(path, plain, metadata)
        return (path,)
    plain, of_vae = split_vae(plain)
    if of_vae:
        return _with_vae(path, plain, of_vae, metadata)
    lora = lora_from_tensors(plain, metadata, where=path)
    write_lora(path, lora, form=LoraForm.kohya)
    if not original_pth:
        return (path,)
    write_lora(path.with_suffix(".pth"), lora, form=LoraForm.original)
    return path, path.with_suffix(".pth")


def _with_vae(
    path: Path, of_unet: Mapping[str, Tensor], of_vae: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> tuple[Path, ...]:
    """Write a LoRA of UNet and VAE as one file; the published container has no place for the second."""
    lora = lora_from_tensors(
        {name.removeprefix(OF_UNET): tensor for name, tensor in of_unet.items()}, metadata, where=path
    )
    tensors, metadata = lora_to_tensors(lora, LoraForm.kohya)
    write_tensors(path, tensors | vae_tensors_of(vae_lora(of_vae, None, where=path)), metadata)
    return (path,)


def _write_seesr(folder: Path, tensors: Mapping[str, Tensor], spec: SeesrSpec) -> tuple[Path, ...]:
    """Write ``unet``, of which there are only the image blocks, and ``controlnet`` into `folder`."""
    files = {part: folder / part / NETWORK_FILE for part in ("unet", "controlnet")}
    for part, path in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise WeightsError(f"{path.parent}: cannot be made ({err.strerror or err})") from err
        own = {n.removeprefix(f"{part}."): t for n, t in tensors.items() if n.startswith(f"{part}.")}
        write_tensors(path, published_names(own), spec_to_metadata(spec))
    with atomic_file(files["controlnet"].with_name("config.json"), error=WeightsError) as file:
        file.write(json.dumps(dict(spec.controlnet), indent=1, sort_keys=True).encode())
    return tuple(files.values())


def export_checkpoint(given: Path, out: Path, *, raw: bool) -> tuple[Path, ...]:
    """Write the generator of a checkpoint, its moving average unless `raw`, to the file `out`: weights, or a graph.

    `given` is a checkpoint, or the folder of a run, whose newest one is taken. Neither the data nor a base model is
    needed.

    Raises:
        ConfigError: `given` holds no checkpoint, or `out` has another ending.
        HypirError: the checkpoint cannot be read, or is of a release that did not write down what it trains.
        WeightsError: `out` cannot be written.
    """
    if out.suffix.lower() not in {".safetensors", *ENDINGS}:
        raise ConfigError(
            f"-o: expected a name that ends in .safetensors, {' or '.join(ENDINGS)}, got {out}; "
            "hypir convert makes others"
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
    if out.suffix.lower() in ENDINGS:
        write_graph(out, tensors, spec_from_metadata(about["weights"], folder))
        return (out,)
    return write_weights(out, tensors, spec_from_metadata(about["weights"], folder))
