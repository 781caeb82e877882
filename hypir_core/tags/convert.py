"""One file for the tagger: the tensors that it needs of RAM's, with SeeSR's LoRA in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import ConfigError, WeightsError
from ..weights.file_names import is_safetensors
from ..weights.spec import spec_to_metadata
from ..weights.tensors import listed, not_finite, write_tensors
from .files import read_tagger

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Number formats that can be written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggerConversion:
    """What `convert_tagger` did."""

    path: Path
    tensors: int
    numbers: int
    label: str
    """What it was made of."""


def convert_tagger(
    in_path: Path,
    out_path: Path,
    *,
    lora: Path | None = None,
    strength: float = 1.0,
    dtype: torch.dtype = torch.float16,
    force: bool = False,
) -> TaggerConversion:
    """Write RAM's tagger into one safetensors file that `read_tagger` reads.

    Args:
        in_path: RAM's published file; 366 of its tensors are read.
        out_path: a .safetensors file; in float16, 424 MB of the published 5.6 GB.
        lora: SeeSR's LoRA for it (DAPE), added in float32 before the numbers are rounded.
        strength: how much of the LoRA is added.
        dtype: number format of the written weights.
        force: replace `out_path` where it exists.

    Raises:
        ConfigError: the paths or settings do not go together.
        WeightsError: a file cannot be read or written, or is something else.
    """
    _check_request(in_path, out_path, lora=lora, strength=strength, dtype=dtype, force=force)
    file = read_tagger(in_path, lora, strength=strength)
    tensors = {name: tensor.to(dtype) for name, tensor in file.tensors()}
    bad = not_finite(tensors)
    if bad:
        raise WeightsError(
            f"{out_path}: not written: NaN or numbers too large for {dtype} in {listed(bad)} of {len(tensors)} "
            "tensors; use float32 or bfloat16, or get the file again"
        )
    write_tensors(out_path, tensors, spec_to_metadata(file.spec))
    numbers = sum(tensor.numel() for tensor in tensors.values())
    return TaggerConversion(path=out_path, tensors=len(tensors), numbers=numbers, label=file.label)


def _check_request(
    in_path: Path,
    out_path: Path,
    *,
    lora: Path | None,
    strength: float,
    dtype: torch.dtype,
    force: bool,
) -> None:
    problems = []
    if not is_safetensors(out_path):
        problems.append(f"{out_path}: for tagger, expected a file name ending in .safetensors")
    if any(path is not None and path.resolve() == out_path.resolve() for path in (in_path, lora)):
        problems.append(f"{out_path}: is read by this conversion; choose another output name")
    elif out_path.exists() and not force:
        problems.append(f"{out_path}: exists already; choose another name, or allow replacing it (force)")
    if lora is None and strength != 1:
        problems.append(f"strength {strength:g} only has a meaning with a LoRA; leave it at 1")
    if dtype not in DTYPES:
        problems.append(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
    if problems:
        raise ConfigError(problems)
