"""Rewriting a LoRA under other names, or merging it into its base model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from ..config import to_plain
from ..errors import ConfigError, SpecMismatchError, UnknownNameError, WeightsError, WeightsNotFoundError
from ..weights.file_names import network_files
from ..weights.ldm_names import LDM_TEXT_PREFIX, LDM_VAE_PREFIX, unet_names
from ..weights.spec import NOT_STATED, LoraSpec
from ..weights.tensors import listed, not_finite, read_checkpoint, read_tensors, write_tensors
from .file import Lora, read_lora, write_lora
from .merge import merged_weights
from .names import LoraForm, WeightShape, adaptable_modules
from .one_step_file import is_nested

MERGED = "merged"
"""Target name: a full model with the LoRA in its weights."""

TARGETS = (*(form.value for form in LoraForm), MERGED)

MERGED_KEY = "hypir.merged_lora"
"""Metadata of a merged file: the LoRA's spec and the strength it was merged with, as JSON."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Number formats that can be written."""

EMA_PREFIX = "model_ema."
"""A second, averaged UNet that some checkpoints carry; left out: the LoRA is merged into the first."""

NETWORKS = (LDM_VAE_PREFIX, LDM_TEXT_PREFIX)
"""VAE and text encoder in a single-file checkpoint; other entries are tables and keep their number format."""

Base: TypeAlias = str | Path | Mapping[str, Tensor]
"""A base model: a file, a diffusers folder, or the UNet's state dict in diffusers names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """What `convert` did."""

    path: Path
    target: str
    modules: int
    rank: int
    """Of most modules."""
    spec: LoraSpec
    notes: tuple[str, ...]
    """What was left out or assumed, a sentence each."""


def convert(
    in_path: str | Path,
    out_path: str | Path,
    *,
    to: str,
    base: Base | None = None,
    published: Mapping[str, WeightShape] | None = None,
    dtype: torch.dtype | None = None,
    strength: float = 1.0,
    force: bool = False,
) -> Conversion:
    """Rewrite the LoRA `in_path` as `out_path`.

    Args:
        in_path: a LoRA in any naming, .safetensors or .pth.
        out_path: a .safetensors file; for ``original`` also .pth, the published container.
        to: one of `TARGETS`. The LoRA forms convert into each other without a change of any number.
        base: the model that the LoRA adapts. ``merged`` needs it: a diffusers UNet gives a UNet file, a
            single-file checkpoint gives a whole checkpoint. Otherwise the LoRA is only checked against it.
        published: name → weight shape of the modules of SD 2.1's UNet (`models.sd.sd21.sd21_module_shapes`), the
            model that the LoRA is checked against where there is no `base`.
        dtype: number format of the written weights; None keeps the LoRA's, and means float16 for ``merged``.
        strength: how much of the LoRA is merged; 1 is as trained.
        force: replace `out_path` where it exists.

    Raises:
        UnknownNameError: there is no such target.
        ConfigError: the paths or settings do not go together.
        WeightsError: a file cannot be read or written, or does not fit.
    """
    in_path, out_path = Path(in_path), Path(out_path)
    _check_request(
        in_path,
        out_path,
        to=to,
        base=base,
        has_modules=base is not None or published is not None,
        dtype=dtype,
        strength=strength,
        force=force,
    )
    if in_path.is_file() and is_nested(read_checkpoint(in_path)):
        raise SpecMismatchError(
            f"{in_path}: expected a LoRA of the UNet alone, got a restorer of several parts; hypir restore --lora takes "
            "it as it is, and in ComfyUI Save HYPIR Checkpoint merges it"
        )
    model = _read_base(base) if base is not None else None
    lora = read_lora(in_path, adaptable_modules(model.unet) if model else published)
    is_published = published is not None and (model is None or adaptable_modules(model.unet) == published)
    spec = lora.spec or _assumed_spec(lora, is_published=is_published)
    lora = replace(lora, spec=spec)
    if model and to == MERGED:
        _write_merged(out_path, model, lora, spec, dtype=dtype or torch.float16, strength=strength)
    else:
        write_lora(out_path, _cast(lora, dtype, out_path) if dtype else lora, form=LoraForm(to))
    return Conversion(
        path=out_path, target=to, modules=len(lora.factors), rank=lora.rank, spec=spec, notes=lora.notes
    )


@dataclass(frozen=True, slots=True, eq=False)
class _BaseModel:
    unet: Mapping[str, Tensor]
    """The UNet's tensors by diffusers name."""
    names: Mapping[str, str]
    """Diffusers name → name in the file."""
    others: Mapping[str, Tensor]
    """What a checkpoint holds besides the UNet, by its name in the file."""


def _check_request(
    in_path: Path,
    out_path: Path,
    *,
    to: str,
    base: Base | None,
    has_modules: bool,
    dtype: torch.dtype | None,
    strength: float,
    force: bool,
) -> None:
    if to not in TARGETS:
        raise UnknownNameError("conversion target", to, TARGETS)
    endings = (".safetensors", ".pth") if to == LoraForm.original.value else (".safetensors",)
    sources = [in_path, Path(base)] if isinstance(base, (str, Path)) else [in_path]
    problems: list[str] = []
    if out_path.suffix not in endings:
        problems.append(f"{out_path}: for {to}, expected a file name ending in {' or '.join(endings)}")
    if any(source.resolve() == out_path.resolve() for source in sources):
        problems.append(f"{out_path}: is read by this conversion; choose another output name")
    elif out_path.exists() and not force:
        problems.append(f"{out_path}: exists already; choose another name, or allow replacing it (force)")
    if to == MERGED and base is None:
        problems.append(f"{MERGED} needs the base model: a diffusers folder, a UNet file or a checkpoint")
    elif not has_modules:
        problems.append(
            "give the base model, or the modules of SD 2.1 (published): the LoRA is checked against them"
        )
    if to != MERGED and strength != 1:
        problems.append(f"strength {strength} only has a meaning for {MERGED}; leave it at 1 for {to}")
    if dtype not in {None, *DTYPES}:
        problems.append(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
    if problems:
        raise ConfigError(problems)


def _read_base(base: Base) -> _BaseModel:
    if isinstance(base, Mapping):
        return _BaseModel(base, {name: name for name in base}, {})
    path = _unet_file(Path(base))
    tensors = read_tensors(path).tensors
    names = unet_names(tensors)
    if names is None:
        raise WeightsError(
            f"{path}: expected a Stable Diffusion UNet or checkpoint, got {listed(list(tensors))} other "
            "tensors; give the base model that the LoRA was trained on"
        )
    taken = set(names.values())
    others = {
        name: tensor
        for name, tensor in tensors.items()
        if name not in taken and not name.startswith(EMA_PREFIX)
    }
    return _BaseModel({new: tensors[old] for new, old in names.items()}, names, others)


def _unet_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [file for folder in (path / "unet", path) for file in network_files(folder)]
    if not found:
        raise WeightsNotFoundError(
            f"{path}: expected a UNet in this folder (unet/diffusion_pytorch_model.safetensors, or the file "
            "itself), found none; give the folder of the base model or its file"
        )
    return found[0]


def _assumed_spec(lora: Lora, *, is_published: bool) -> LoraSpec:
    """Return the spec of a LoRA that came without one: the published LoRA's, as far as it can be known."""
    spec = LoraSpec(rank=lora.rank, alpha=lora.alpha)
    return spec if is_published else replace(spec, base_model=NOT_STATED)


def _write_merged(
    path: Path, base: _BaseModel, lora: Lora, spec: LoraSpec, *, dtype: torch.dtype, strength: float
) -> None:
    merged = {name: weight.to(dtype) for name, weight in merged_weights(base.unet, lora, strength=strength)}
    unet = {base.names[name]: merged.get(name, weight.to(dtype)) for name, weight in base.unet.items()}
    others = {
        name: tensor.to(dtype) if name.startswith(NETWORKS) and tensor.is_floating_point() else tensor
        for name, tensor in base.others.items()
    }
    _check_range(unet, dtype, path)
    note = json.dumps({"strength": strength, "spec": to_plain(spec)}, sort_keys=True)
    write_tensors(path, unet | others, {MERGED_KEY: note})


def _cast(lora: Lora, dtype: torch.dtype, path: Path) -> Lora:
    factors = {module: (down.to(dtype), up.to(dtype)) for module, (down, up) in lora.factors.items()}
    _check_range(
        {f"{m}.{part}": t for m, pair in factors.items() for part, t in zip("AB", pair, strict=True)},
        dtype,
        path,
    )
    return replace(lora, factors=factors)


def _check_range(tensors: Mapping[str, Tensor], dtype: torch.dtype, path: Path) -> None:
    bad = not_finite(tensors)
    if bad:
        raise WeightsError(
            f"{path}: not written: NaN or numbers too large for {dtype} in {listed(bad)} of {len(tensors)} "
            "tensors; use bfloat16, or check the base model"
        )
