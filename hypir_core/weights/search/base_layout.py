"""Recognise a base model on disk in any packaging, by what the files hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from .base_files import BaseFiles, Packaging

SINGLE_FILE_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth")

_NETWORK_FILES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
)
_TEXT_ENCODER_FILES = (
    "model.safetensors",
    "model.fp16.safetensors",
    "pytorch_model.bin",
    "pytorch_model.fp16.bin",
)


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
    """Recognise a folder with `unet/`, `vae/` and `text_encoder/`; full precision is preferred to half."""
    if not folder.is_dir():
        return Missing("no such folder")
    wanted = {"unet": _NETWORK_FILES, "vae": _NETWORK_FILES, "text_encoder": _TEXT_ENCODER_FILES}
    found: dict[str, Path] = {}
    lacking: list[str] = []
    for part, names in wanted.items():
        weights = first_file(folder / part / name for name in names)
        if weights is None:
            lacking.append(f"{part}/{names[0]}")
        elif (reason := not_weights(weights)) is not None:
            return Missing(f"{part}/{weights.name} is {reason}")
        else:
            found[part] = weights
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
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SINGLE_FILE_SUFFIXES)
    tensor_files = [path for path in files if path.suffix.lower() in {".safetensors", ".sft"}]
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
    if path.suffix.lower() not in SINGLE_FILE_SUFFIXES:
        return Missing(f"expected {', '.join(SINGLE_FILE_SUFFIXES)}, got {path.suffix or 'no ending'}")
    if (reason := not_weights(path)) is not None:
        return Missing(reason)
    if path.suffix.lower() in {".safetensors", ".sft"}:
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
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
    except (SafetensorError, OSError):
        return None
    has_unet = any(".time_embed.0." in f".{n}" or ".time_embedding.linear_1." in f".{n}" for n in names)
    has_vae = any(n.removeprefix("first_stage_model.").startswith("decoder.conv_in.") for n in names)
    has_text = any(n.endswith(("token_embedding.weight", "wte.weight")) for n in names)
    if has_unet and has_vae:
        return Role.checkpoint if has_text else None
    if has_unet:
        return Role.unet
    if has_vae:
        return Role.vae
    return Role.text_encoder if has_text else None


def not_weights(path: Path) -> str | None:
    """Say what a file is that only pretends to be weights: empty, a Git LFS pointer, a web page; or None."""
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
    if not head:
        return "an empty file; get it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; run `git lfs pull` there or get it again"
    if head.startswith((b"<!doctype", b"<html")):
        return "a web page, not weights; get it again"
    return None


def first_file(candidates: Iterable[Path]) -> Path | None:
    """Return the first path that is a file (or a link to one that exists)."""
    return next((path for path in candidates if path.is_file()), None)


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
