"""Discriminators as files, for another run to go on from.

The names are the ones that torch's older spectral norm gave, as in the published file of the one-step
discriminator's heads: ``weight_orig``, ``weight_u``, ``weight_v``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from hypir_core.weights.tensors import write_tensors

from ..run.warm_start import read_fitting

LEGACY_NAMES = {
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": "parametrizations.weight.0._v",
}
"""In the file → in the module."""


def file_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of `module` under the names of a file."""
    return {_legacy(name): tensor.detach() for name, tensor in module.state_dict().items()}


def write_discriminator(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `file_tensors` as safetensors.

    Raises:
        WeightsError: the file cannot be written.
    """
    write_tensors(path, {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, {})


def read_discriminator(module: nn.Module, path: Path, *, key: str) -> None:
    """Fill `module` from a file; `key` is what errors call the setting that names it.

    Raises:
        WeightsError: the file cannot be read or holds NaN.
        SpecMismatchError: a tensor is missing, is one too many, or has another shape.
    """
    tensors = read_fitting(
        path,
        file_tensors(module),
        key=key,
        what="discriminator",
        advice="set the options that the file was trained with",
    )
    own = module.state_dict().keys()  # a module may have the older spectral norm itself
    module.load_state_dict({name if name in own else _modern(name): t for name, t in tensors.items()})


def _legacy(name: str) -> str:
    for legacy, modern in LEGACY_NAMES.items():
        if name.endswith(f".{modern}"):
            return name.removesuffix(modern) + legacy
    return name


def _modern(name: str) -> str:
    module, dot, last = name.rpartition(".")
    return f"{module}{dot}{LEGACY_NAMES.get(last, last)}"
