"""Recognise a base model on disk in any packaging, by what the files hold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ...errors import WeightsError
from ..file_names import (
    CHECKPOINT_ENDINGS,
    NETWORK_STEMS,
    TEXT_ENCODER_STEMS,
    is_index,
    is_safetensors,
    network_files,
)
from ..ldm_names import LDM_VAE_PREFIX
from ..not_weights import not_weights
from ..shards import shards_of
from .base_files import BaseFiles, Packaging


class Role(str, Enum):
    """What a weight file holds."""

    checkpoint = "checkpoint"
    """UNet, VAE and text encoder together, under the original release's names."""
    unet = "UNet"
    vae = "VAE"
    text_encoder = "text encoder"


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a place holds no usable base model."""

    reason: str


def read_base(path: Path, *, found_in: str) -> BaseFiles | Missing:
    """Recognise the base model at `path`: a folder (diffusers, separate files, one file) or a single file."""
    if not path.exists():
        return Missing("no such file or folder")
    if path.is_file():
        return read_single_file(path, found_in=found_in)
    if any((path / part).is_dir() for part in ("unet", "vae", "text_encoder")):
        return read_diffusers_folder(path, found_in=found_in)
    return read_separate_files(path, found_in=found_in)


def read_diffusers_folder(folder: Path, *, found_in: str) -> BaseFiles | Missing:
    """Recognise a folder with `unet/`, `vae/` and `text_encoder/`, each in one file or in several.

    Of a network that is there more than once, `network_files` says which is taken.
    """
    if not folder.is_dir():
        return Missing("no such folder")
    wanted = {"unet": NETWORK_STEMS, "vae": NETWORK_STEMS, "text_encoder": TEXT_ENCODER_STEMS}
    found: dict[str, Path] = {}
    lacking: list[str] = []
    for part, stems in wanted.items():
        there = network_files(folder / part, stems)
        faults = {file: network_fault(file) for file in there}
        whole = next((file for file in there if faults[file] is None), None)
        if whole is not None:
            found[part] = whole
        elif there:
            return Missing(f"{part}/{there[0].name} is {faults[there[0]]}")
        else:
            lacking.append(f"{part}/{stems[0]}.safetensors")
        if not (folder / part / "config.json").is_file():
            lacking.append(f"{part}/config.json")
    if lacking:
        return Missing(f"incomplete, without {', '.join(lacking)}")
    tokenizer = folder / "tokenizer"
    scheduler = folder / "scheduler" / "scheduler_config.json"
    return BaseFiles(
        packaging=Packaging.diffusers_folder,
        found_in=found_in,
        **found,
        tokenizer=tokenizer if (tokenizer / "vocab.json").is_file() else None,
        scheduler_config=scheduler if scheduler.is_file() else None,
    )


def read_separate_files(folder: Path, *, found_in: str) -> BaseFiles | Missing:
    """Recognise a folder with one safetensors file per network, or with a single whole checkpoint."""
    files = sorted(path for path in folder.iterdir() if path.name.lower().endswith(CHECKPOINT_ENDINGS))
    tensor_files = [path for path in files if is_safetensors(path)]
    by_role: dict[Role | None, list[Path]] = {}
    for path in tensor_files:
        by_role.setdefault(role_of(path), []).append(path)
    for role in Role:
        if len(by_role.get(role, [])) > 1:
            names = ", ".join(path.name for path in by_role[role])
            return Missing(f"more than one {role.value} ({names}); name the one file or keep one of them")
    parts = [by_role.get(role, [None])[0] for role in (Role.unet, Role.vae, Role.text_encoder)]
    if all(parts):
        return _separate(*parts, found_in=found_in, tokenizer=folder / "tokenizer")
    if Role.checkpoint in by_role:
        return read_single_file(by_role[Role.checkpoint][0], found_in=found_in)
    pickles = [path for path in files if path not in tensor_files]
    if len(pickles) == 1 and not any(parts):
        return read_single_file(pickles[0], found_in=found_in)
    lacking = [role.value for role, part in zip(list(Role)[1:], parts, strict=True) if part is None]
    return Missing(f"no file that holds the {', the '.join(lacking)}")


def read_single_file(path: Path, *, found_in: str) -> BaseFiles | Missing:
    """Recognise one whole checkpoint; a pickle (.ckpt) is taken at its name's word and read later."""
    if not path.name.lower().endswith(CHECKPOINT_ENDINGS):
        return Missing(f"expected {', '.join(CHECKPOINT_ENDINGS)}, got {path.suffix or 'no ending'}")
    if (reason := not_weights(path)) is not None:
        return Missing(reason)
    if is_safetensors(path):
        role = role_of(path)
        if role is None:
            return Missing("neither a whole checkpoint nor one of its networks, or damaged")
        if role is not Role.checkpoint:
            return Missing(f"holds only the {role.value}; name the folder that also holds the other networks")
    return BaseFiles(packaging=Packaging.single_file, found_in=found_in, single_file=path)


def separate(unet: Path, vae: Path, text_encoder: Path, *, found_in: str) -> BaseFiles:
    """Return the base model made of three files that were already recognised."""
    return _separate(unet, vae, text_encoder, found_in=found_in, tokenizer=None)


def role_of(path: Path) -> Role | None:
    """Say which network a safetensors file holds by its tensor names; None: another one, or a damaged file.

    Only the header is read, and the file's length is checked against it.
    """
    names = tensor_names(path)
    if names is None:
        return None
    has_unet = any(".time_embed.0." in f".{n}" or ".time_embedding.linear_1." in f".{n}" for n in names)
    has_vae = any(n.removeprefix(LDM_VAE_PREFIX).startswith("decoder.conv_in.") for n in names)
    has_text = any(n.endswith(("token_embedding.weight", "wte.weight")) for n in names)
    if has_unet and has_vae:
        return Role.checkpoint if has_text else None
    if has_unet:
        return Role.unet
    if has_vae:
        return Role.vae
    return Role.text_encoder if has_text else None


def tensor_names(path: Path) -> list[str] | None:
    """Return the names of a safetensors file's tensors, from its header alone; None: another or a damaged file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return list(file.keys())
    except (SafetensorError, OSError):
        return None


def network_fault(path: Path) -> str | None:
    """Say why a network's file, or one of its shards, cannot be used; None: it may hold weights."""
    if not is_index(path):
        return not_weights(path)
    try:
        faults = {shard.name: not_weights(shard) for shard in shards_of(path)}
    except WeightsError as err:
        return f"unusable ({err})"
    return next((f"incomplete: {name} is {fault}" for name, fault in faults.items() if fault), None)


def _separate(
    unet: Path | None, vae: Path | None, text_encoder: Path | None, *, found_in: str, tokenizer: Path | None
) -> BaseFiles:
    return BaseFiles(
        packaging=Packaging.separate_files,
        found_in=found_in,
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer if tokenizer and (tokenizer / "vocab.json").is_file() else None,
    )
