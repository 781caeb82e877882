"""ComfyUI's folders of models and results."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ...hypir_core.errors import WeightsNotFoundError


def register_folders() -> None:
    """Make ``models/hypir`` known, and give a folder of that name in extra_model_paths.yaml its endings."""
    folders, endings = folder_paths.folder_names_and_paths.get("hypir", ([], set()))
    own = os.path.join(folder_paths.models_dir, "hypir")  # noqa: PTH118  # ComfyUI keeps strings
    folder_paths.folder_names_and_paths["hypir"] = (
        list(dict.fromkeys([*folders, own])),
        set(endings) | folder_paths.supported_pt_extensions,
    )


def lora_names() -> list[str]:
    """Return the files in the folders ``hypir`` and ``loras``, each name once."""
    return file_names("hypir", "loras")


def lora_path(name: str) -> Path:
    """Find a file of `lora_names`.

    Raises:
        WeightsNotFoundError: it is in neither folder; lists them.
    """
    return file_path(name, "hypir", "loras", what="LoRA")


def file_names(*kinds: str) -> list[str]:
    """Return the files in some of ComfyUI's folders, each name once."""
    return list(dict.fromkeys(name for kind in kinds for name in folder_paths.get_filename_list(kind)))


def file_path(name: str, *kinds: str, what: str) -> Path:
    """Find a file of `file_names`.

    Raises:
        WeightsNotFoundError: it is in none of the folders; lists them.
    """
    for kind in kinds:
        path = folder_paths.get_full_path(kind, name)
        if path is not None:
            return Path(path)
    places = [place for kind in kinds for place in folder_paths.get_folder_paths(kind)]
    raise WeightsNotFoundError(
        f"{name!r} is in none of {', '.join(places)}; put the {what} there and press R"
    )


def input_path(name: str) -> Path:
    """Return a whole path as it is, another one below ComfyUI's input folder; it need not exist."""
    return Path(folder_paths.get_input_directory()) / name.strip()


def output_path(prefix: str, ending: str) -> Path:
    """Return a new numbered file below ComfyUI's output folder; its folder exists."""
    folder, name, counter, _, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory()
    )
    return Path(folder) / f"{name}_{counter:05}_{ending}"
