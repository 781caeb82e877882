"""Where the files of one SD 2.1-base model lie on this machine, whatever their packaging."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Packaging(str, Enum):
    """How the weights of a base model are laid out on disk."""

    diffusers_folder = "diffusers_folder"
    """A folder with `unet/`, `vae/` and `text_encoder/`, each with `config.json`, and mostly `tokenizer/`."""
    separate_files = "separate_files"
    """Three weight files, one per network, without configs."""
    single_file = "single_file"
    """One file in the layout of the original release (`model.diffusion_model.…`), without configs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFiles:
    """The files of one base model. Every path exists when `locate_base` returns it.

    `unet`, `vae` and `text_encoder` are weight *files* in both packagings that have them; in a diffusers
    folder the `config.json` of a network lies beside its weight file. The names of the tensors inside are not
    part of the promise: a separate file may hold diffusers or original names.
    """

    packaging: Packaging
    found_in: str
    """Where it was found, for reports: ``Hugging Face cache: sd2-community/…-2-1-base@4e63672c``."""
    unet: Path | None = None
    """Weight file of the UNet; None in `single_file`."""
    vae: Path | None = None
    """Weight file of the VAE; None in `single_file`."""
    text_encoder: Path | None = None
    """Weight file of the CLIP text encoder; None in `single_file`."""
    tokenizer: Path | None = None
    """Folder with `vocab.json` and `merges.txt`, or None: the packaging brings none."""
    scheduler_config: Path | None = None
    """`scheduler_config.json`, or None: the packaging brings none."""
    single_file: Path | None = None
    """The one .safetensors or .ckpt file; None in the other packagings."""
