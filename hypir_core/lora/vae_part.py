"""The part of a LoRA file that belongs to the VAE's encoder, as training here writes it: ``vae.encoder.X.lora_A…``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..weights.spec import LoraSpec
from .file import Lora, check_lora, lora_from_tensors, lora_to_tensors
from .names import OF_VAE, LoraForm, WeightShape


def split_vae(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of the UNet, by the names of the file, and those of the VAE without their prefix."""
    of_vae = {name.removeprefix(OF_VAE): t for name, t in tensors.items() if name.startswith(OF_VAE)}
    return {name: t for name, t in tensors.items() if not name.startswith(OF_VAE)}, of_vae


def vae_lora(
    tensors: Mapping[str, Tensor], modules: Mapping[str, WeightShape] | None, *, where: str | Path
) -> Lora:
    """Return the LoRA of a VAE; its alpha is its rank.

    Args:
        tensors: without the prefix.
        modules: of the VAE, to check it against; None checks the tensors alone.
        where: names the file in errors.

    Raises:
        WeightsError: these are no low-rank factors.
        SpecMismatchError: they do not fit each other or the VAE.
    """
    lora = lora_from_tensors(tensors, {}, where=where)
    spec = LoraSpec(rank=lora.rank, alpha=lora.rank, target_modules=tuple(lora.factors))
    lora = replace(lora, spec=spec, alpha=float(lora.rank), scales={}, notes=())
    if modules is not None:
        check_lora(lora, modules, where=where)
    return lora


def vae_tensors_of(lora: Lora) -> dict[str, Tensor]:
    """Return the named tensors of a VAE's LoRA for a file."""
    tensors, _ = lora_to_tensors(lora, LoraForm.original)
    return {f"{OF_VAE}{name}": tensor for name, tensor in tensors.items()}
