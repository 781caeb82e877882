"""Recognise a LoRA at a place that a person names, whatever it is called."""

from __future__ import annotations

from pathlib import Path

from ..file_names import is_safetensors, is_weight_file
from ..not_weights import not_weights
from .base_layout import Missing
from .comfy_search import lora_in

_USUAL_STEMS = ("adapter_model", "pytorch_lora_weights")
"""What PEFT and diffusers call the LoRA in a folder of theirs."""

PARTS = ("unet", "unet_lora_adapter", "vae_encoder_lora_adapter")
"""Folders that make a restorer of their folder as a whole."""


def read_lora_place(path: Path) -> Path | Missing:
    """Return the LoRA file at `path`: the file itself or, in a folder, HYPIR's, PEFT's, diffusers' or the only one.

    A folder that holds folders of networks or of adapters is a restorer as it is.
    """
    if path.is_file():
        fault = not_weights(path)
        return Missing(fault) if fault else path
    if not path.is_dir():
        return Missing("no such file or folder")
    if any((path / part).is_dir() for part in PARTS):
        return path
    published = lora_in(path)
    if isinstance(published, Path):
        return published
    files = sorted(
        filter(is_weight_file, path.iterdir()), key=lambda file: (not is_safetensors(file), file.name)
    )
    usual = [file for stem in _USUAL_STEMS for file in files if file.stem == stem]
    if usual:
        return read_lora_place(usual[0])
    if len(files) == 1:
        return read_lora_place(files[0])
    if files:
        return Missing(f"{len(files)} weight files ({files[0].name}, {files[1].name}, …); name the one meant")
    return published
