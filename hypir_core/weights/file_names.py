"""How weight files are called: their endings, and what a network's file is called in a diffusers folder."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

SAFETENSORS_ENDINGS = (".safetensors", ".sft")

CHECKPOINT_ENDINGS = (*SAFETENSORS_ENDINGS, ".ckpt", ".pt", ".pth")
"""Endings of a whole model in one file. A ``.bin`` is one network of a folder."""

WEIGHT_ENDINGS = (*CHECKPOINT_ENDINGS, ".bin", ".pkl")

NETWORK_STEMS = ("diffusion_pytorch_model",)
"""Names of a UNet or VAE in a diffusers folder, without endings."""

TEXT_ENCODER_STEMS = ("model", "pytorch_model")

_FULL_PRECISION = ("", "fp32")
_LAST_CHOICE = ("non_ema",)
"""Variants that hold the weights without their average, which is meant for further training."""


def is_safetensors(path: str | PurePath) -> bool:
    """Return whether a name ends as safetensors files do."""
    return str(path).lower().endswith(SAFETENSORS_ENDINGS)


def is_weight_file(path: Path) -> bool:
    """Return whether `path` is a file that ends as weight files do."""
    return path.name.lower().endswith(WEIGHT_ENDINGS) and path.is_file()


def is_index(path: str | PurePath) -> bool:
    """Return whether a name is that of the index of a network in several files (shards)."""
    return bool(re.search(r"\.index(\.\w+)?\.json$", PurePath(path).name))


def network_files(folder: Path, stems: tuple[str, ...] = NETWORK_STEMS) -> list[Path]:
    """Return the weight files of one network in a folder, the best first; for shards, their index.

    Known are ``STEM.safetensors``, ``STEM.bin``, their variants (``STEM.fp16.safetensors``) and the indices of
    all of these in every place where diffusers and transformers have written the variant. Safetensors come before
    pickles, full precision before other variants, one file before shards.
    """
    name = re.compile(
        rf"(?:{'|'.join(map(re.escape, stems))})(?:\.(?P<before>\w+))?\.(?P<kind>safetensors|bin)"
        r"(?P<index>(?:\.(?P<middle>(?!index\b)\w+))?\.index(?:\.(?P<after>\w+))?\.json)?"
    )
    found: list[tuple[tuple[bool, bool, bool, bool, str], Path]] = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = name.fullmatch(path.name)
        if match is not None and path.is_file():
            variant = match["before"] or match["middle"] or match["after"] or ""
            order = (
                match["kind"] != "safetensors",
                variant in _LAST_CHOICE,
                variant not in _FULL_PRECISION,
                match["index"] is not None,
                path.name,
            )
            found.append((order, path))
    return [path for _, path in sorted(found)]
