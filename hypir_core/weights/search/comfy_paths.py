"""Where a ComfyUI on this machine keeps its models, ``extra_model_paths.yaml`` included; without ComfyUI."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...config import load_yaml
from ...environment import variables
from ...errors import ConfigError
from ..file_names import WEIGHT_ENDINGS

_RENAMED = {"unet": "diffusion_models", "clip": "text_encoders"}
"""Old names of folder kinds that ComfyUI still accepts."""

_DEFAULT_FOLDERS = {
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("unet", "diffusion_models"),
}
"""Kinds with other default folders below ``models/`` than the one of their own name."""


def default_roots() -> tuple[Path, ...]:
    """Return the ComfyUI folders of this machine that exist.

    Tried in order: COMFYUI_PATH, the ComfyUI this package is installed in as a plugin, and the folders that
    ComfyUI's own installers choose.
    """
    stated = variables().get("COMFYUI_PATH")
    around = next((p.parent for p in Path(__file__).resolve().parents if p.name == "custom_nodes"), None)
    home = Path.home()
    places = [home / "comfy" / "ComfyUI", home / "ComfyUI", home / "Documents" / "ComfyUI"]
    found = [Path(stated).expanduser()] if stated else []
    found += [around] if around else []
    return tuple(dict.fromkeys(place for place in (*found, *places) if place.is_dir()))


def model_folders(kind: str, root: Path) -> tuple[Path, ...]:
    """Return the existing folders of one kind (``checkpoints``, ``loras``, ``hypir`` …) in ComfyUI's order.

    Args:
        kind: the name of the kind; upper and lower case are one.
        root: a ComfyUI folder, or its ``models`` folder itself.

    Raises:
        ConfigError: an ``extra_model_paths.yaml`` there cannot be read.
    """
    kind = _kind(kind)
    models = root / "models" if (root / "models").is_dir() else root
    names = _DEFAULT_FOLDERS.get(kind, (kind,))
    ordinary = [child for name in names for child in _children(models, name)]
    first: list[Path] = []
    for config in dict.fromkeys((root / "extra_model_paths.yaml", models.parent / "extra_model_paths.yaml")):
        if config.is_file():
            for extra_kind, folder, is_default in read_extra_model_paths(config):
                if extra_kind == kind:
                    (first if is_default else ordinary).append(folder)
    return tuple(dict.fromkeys(folder for folder in (*first, *ordinary) if folder.is_dir()))


def read_extra_model_paths(path: Path) -> list[tuple[str, Path, bool]]:
    """Read an ``extra_model_paths.yaml``: (kind, folder, is it in a section marked `is_default`).

    Every section is a mapping of kinds to one folder per line; folders are relative to its `base_path`, or
    to the file where there is none. ``~`` and environment variables in `base_path` are expanded.

    Raises:
        ConfigError: the file is not such a mapping.
    """
    entries: list[tuple[str, Path, bool]] = []
    for section, content in load_yaml(path).items():
        if content is None:
            continue
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: section {section!r}: expected kinds and folders, got {content!r}")
        stated = content.get("base_path")
        base = path.parent / Path(os.path.expandvars(str(stated))).expanduser() if stated else path.parent
        is_default = bool(content.get("is_default", False))
        for kind, value in content.items():
            if kind not in {"base_path", "is_default"}:
                folders = _lines(value, f"{path}: {section}.{kind}")
                entries += [(_kind(str(kind)), base / folder, is_default) for folder in folders]
    return entries


def weight_files(folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the weight files below some folders, links followed, in a fixed order: shallow first, by name."""
    for folder in folders:
        seen: set[str] = set()
        for parent, children, names in os.walk(folder, followlinks=True):
            real = os.path.realpath(parent)
            if real in seen:
                children.clear()
                continue
            seen.add(real)
            children.sort()
            yield from (Path(parent, name) for name in sorted(names) if name.lower().endswith(WEIGHT_ENDINGS))


def _kind(name: str) -> str:
    return _RENAMED.get(name.lower(), name.lower())


def _children(models: Path, name: str) -> list[Path]:
    """Return the sub-folders called `name` in any mix of case, the exact one first."""
    if not models.is_dir():
        return []
    found = [child for child in models.iterdir() if child.name.lower() == name and child.is_dir()]
    return sorted(found, key=lambda child: (child.name != name, child.name))


def _lines(value: Any, where: str) -> list[str]:
    lines = value.splitlines() if isinstance(value, str) else value
    if lines is None:
        return []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ConfigError(f"{where}: expected one folder per line, got {value!r}")
    return [line.strip() for line in lines if line.strip()]
