"""Look for base models, for LoRA files and for files by their names in the folders of a ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ...errors import ConfigError
from ..file_names import is_safetensors
from ..not_weights import not_weights
from .base_files import BaseFiles
from .base_layout import (
    Missing,
    Role,
    read_diffusers_folder,
    read_single_file,
    role_of,
    separate,
)
from .comfy_paths import default_roots, model_folders, weight_files
from .wanted_base import WantedBase

_LORA_NAME = re.compile(r"hypir[-_ ]?sd2(?!.*(?:[-_]d$|merged))")
"""Not the discriminator (``HYPIR_sd2_D``), not a merged UNet."""


def base_in_comfy(
    roots: Sequence[Path] | None, wanted: WantedBase
) -> Iterator[tuple[str, BaseFiles | Missing]]:
    """Yield (place, result) for what is called like the wanted model in ComfyUI's folders, whole models first."""
    for root, folders in comfy_folders(
        roots, "diffusers", "hypir", "checkpoints", "diffusion_models", "vae", "text_encoders"
    ):
        if isinstance(folders, Missing):
            yield root, folders
            continue
        diffusers, hypir, checkpoints, *parts = folders
        for folder in (*diffusers, *hypir):
            for child in sorted(folder.iterdir()):
                if child.is_dir() and wanted.is_called(child.name, whole=True):
                    yield str(child), read_diffusers_folder(child, found_in=root)
        for path in ranked(path for path in weight_files(checkpoints) if wanted.is_checkpoint(path)):
            yield str(path), read_single_file(path, found_in=root)
        yield root, _separate_files(parts, wanted, found_in=root)


def lora_in_comfy(
    roots: Sequence[Path] | None, name: str | None = None
) -> Iterator[tuple[str, Path | Missing]]:
    """Yield (place, result) for the folders ``hypir`` and ``loras``: a file called `name`, or HYPIR's own."""
    for root, folders in comfy_folders(roots, "hypir", "loras"):
        if isinstance(folders, Missing):
            yield root, folders
            continue
        hypir, loras = folders
        if not hypir and not loras:
            yield root, Missing("no folder called loras, hypir or HYPIR")
        for folder in (*hypir, *loras):
            yield str(folder), lora_in(folder, name)


def lora_in(folder: Path, name: str | None = None) -> Path | Missing:
    """Return the LoRA file below `folder`: the one called `name`, or HYPIR's (safetensors before pickles)."""
    if not folder.is_dir():
        return Missing("no such folder")
    fits: Callable[[Path], bool] = (
        (lambda path: path.name == name) if name else (lambda path: bool(_LORA_NAME.match(path.stem.lower())))
    )
    reason = f"no file called {name or 'HYPIR_sd2.safetensors or HYPIR_sd2.pth'}"
    found = [path for path in weight_files([folder]) if path.is_file() and fits(path)]
    for path in sorted(found, key=lambda path: (len(path.stem), not is_safetensors(path))):
        fault = not_weights(path)
        if fault is None:
            return path
        reason = f"{path.name} is {fault}"
    return Missing(reason)


def ranked(paths: Iterable[Path]) -> list[Path]:
    """Sort files of one model: full precision before half, safetensors before pickles."""

    def rank(path: Path) -> tuple[bool, bool, str]:
        return "16" in path.stem, not is_safetensors(path), str(path)

    return sorted(paths, key=rank)


def comfy_folders(
    roots: Sequence[Path] | None, *kinds: str
) -> Iterator[tuple[str, list[tuple[Path, ...]] | Missing]]:
    """Yield every ComfyUI with its folders of some kinds, in the order of `kinds`."""
    roots = default_roots() if roots is None else roots
    if not roots:
        yield "ComfyUI", Missing("not looked for, or none of COMFYUI_PATH, ~/comfy/ComfyUI, ~/ComfyUI exists")
    for root in roots:
        if not root.is_dir():
            yield f"ComfyUI: {root}", Missing("no such folder")
            continue
        try:
            folders = [model_folders(kind, root) for kind in kinds]
        except ConfigError as err:
            yield f"ComfyUI: {root}", Missing(str(err))
        else:
            yield f"ComfyUI: {root}", folders


def _separate_files(
    parts: Sequence[Sequence[Path]], wanted: WantedBase, *, found_in: str
) -> BaseFiles | Missing:
    roles = (Role.unet, Role.vae, Role.text_encoder)
    checkpoint, folder, separate_names = wanted.examples
    found: list[Path] = []
    for role, folders in zip(roles, parts, strict=True):
        named = ranked(p for p in weight_files(folders) if wanted.is_called(p.stem, whole=role is Role.unet))
        match = next((path for path in named if role_of(path) is role), None)
        if match is None:
            return Missing(
                f"no checkpoints/{checkpoint}, no diffusers/{folder}, and as separate files no {role.value} "
                f"(named like {separate_names})"
            )
        found.append(match)
    return separate(*found, found_in=found_in)
